import type { GroupPartitionsAssigner } from '@platformatic/kafka';

export interface Member {
  id: string;
  /** What it says it holds, and since which generation of the group. */
  held: readonly number[];
  generation: number;
}

/**
 * Who reads which partition: shares that differ by one at most, and as few moves as that allows. (The client's own
 * assigner leaves a third member of four partitions without any.) What somebody must give up goes to nobody in this
 * round: the member that lost it joins again, and in the next round it is free.
 */
export function share(partitions: number, members: readonly Member[]): Map<string, number[]> {
  const owners = ownersOf(members);
  const trusted = (m: Member): number[] => m.held.filter(p => p < partitions && owners.get(p) === m.id);
  const ranked = members
    .map(m => ({ id: m.id, held: trusted(m) }))
    .sort((a, b) => b.held.length - a.held.length || (a.id < b.id ? -1 : 1));
  const least = Math.floor(partitions / ranked.length);
  const larger = partitions % ranked.length;
  const free = Array.from({ length: partitions }, (_, p) => p).filter(p => !owners.has(p));
  const shares = new Map<string, number[]>();
  for (const [rank, { id, held }] of ranked.entries()) {
    const size = rank < larger ? least + 1 : least;
    shares.set(id, [...held.slice(0, size), ...free.splice(0, Math.max(0, size - held.length))]);
  }
  return shares;
}

/** Of two claims the one of the later generation counts; of equal ones none does: the owner is then ''. */
function ownersOf(members: readonly Member[]): Map<number, string> {
  const latest = Math.max(...members.map(m => m.generation));
  const owners = new Map<number, string>();
  for (const { id, held, generation } of members) {
    if (generation < latest) continue;
    for (const partition of held) owners.set(partition, owners.has(partition) ? '' : id);
  }
  return owners;
}

/** For groups whose members all read one topic. */
export const assigner: GroupPartitionsAssigner = (_current, members, topics, metadata) => {
  const [topic = ''] = topics;
  const claims = [...members].map(([id, { ownedPartitions, generationId }]) => ({
    id,
    held: ownedPartitions?.find(owned => owned.topic === topic)?.partitions ?? [],
    generation: generationId ?? -1,
  }));
  const shares = share(metadata.topics.get(topic)?.partitionsCount ?? 0, claims);
  return [...shares].map(([memberId, partitions]) => ({
    memberId,
    assignments: new Map([[topic, { topic, partitions }]]),
  }));
};
