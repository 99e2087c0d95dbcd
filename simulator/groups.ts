/**
 * Who reads which partition, as a consumer group decides it: without a fence. One that lost a partition hears of it
 * later than the one that got it, or not before it can be reached again.
 */
import type { LogName } from '../src/entry.ts';
import type { Assignment, EventLog } from '../src/ports.ts';
import type { Life } from './scheduler.ts';

type On = Parameters<EventLog['assign']>[2];

interface Member {
  on: On;
  life: Life | undefined;
  /** The group counts it in. */
  active: boolean;
  closed: boolean;
  /** What it has heard that it holds. */
  holds: Set<number>;
  /** News that it has not heard yet, in order. */
  news: { kind: keyof On; partition: number }[];
}

interface Group {
  name: string;
  members: Member[];
  owners: (Member | undefined)[];
}

export interface Waits {
  assign(): number;
  revoke(): number;
  /** Until one that is gone is missed. */
  session(): number;
  isCut(life: Life): boolean;
}

type Later = (life: Life | undefined, ms: number, what: string, call: () => void) => void;

/** How often one that cannot be reached is tried again. */
const againMs = 200;

export class Groups {
  private readonly groups = new Map<string, Group>();
  private readonly partitions: number;
  private readonly later: Later;
  private readonly waits: Waits;

  constructor(partitions: number, later: Later, waits: Waits) {
    this.partitions = partitions;
    this.later = later;
    this.waits = waits;
  }

  join(name: string, log: LogName, on: On, life: Life | undefined): Assignment {
    const id = `${name} ${log}`;
    let group = this.groups.get(id);
    if (!group) {
      group = { name, members: [], owners: Array.from({ length: this.partitions }, () => undefined) };
      this.groups.set(id, group);
    }
    const joined = group;
    const member: Member = { on, life, active: false, closed: false, holds: new Set(), news: [] };
    joined.members.push(member);
    this.later(life, this.waits.assign(), `joins ${name}`, () => {
      member.active = !member.closed;
      this.share(joined);
    });
    return {
      close: async () => {
        if (member.closed) return;
        member.closed = true;
        this.leave(joined, member);
        for (const partition of [...member.holds]) this.hear(member, 'revoked', partition);
      },
    };
  }

  /** Members of this process are missed after a while: it has ended, or cannot be reached. */
  lost(life: Life): void {
    for (const group of this.groups.values()) {
      for (const member of group.members) {
        if (member.life !== life) continue;
        this.later(undefined, this.waits.session(), `${group.name} misses ${life.name}`, () => {
          if (life.alive && !this.waits.isCut(life)) return;
          this.leave(group, member);
          if (life.alive) this.comeBack(group, member);
        });
      }
    }
  }

  /** Gives a partition to another member, who hears of it before the one that had it does, or long after. */
  move(name: string, partition: number): void {
    for (const group of this.groups.values()) {
      if (group.name !== name) continue;
      const others = group.members.filter(member => member.active && member !== group.owners[partition]);
      const next = others[0];
      if (next) this.give(group, partition, next);
    }
  }

  private comeBack(group: Group, member: Member) {
    this.later(member.life, againMs, `tries to join ${group.name}`, () => {
      if (member.closed || member.active) return;
      if (member.life && this.waits.isCut(member.life)) return this.comeBack(group, member);
      member.active = true;
      this.share(group);
    });
  }

  private leave(group: Group, member: Member): void {
    member.active = false;
    group.owners.forEach((owner, partition) => {
      if (owner !== member) return;
      group.owners[partition] = undefined;
      this.tell(member, 'revoked', partition, this.waits.revoke());
    });
    this.share(group);
  }

  /** Each keeps what it has, up to its share. */
  private share(group: Group): void {
    const active = group.members.filter(member => member.active);
    if (active.length === 0) return;
    const shareMax = Math.ceil(this.partitions / active.length);
    const of = (member: Member) => group.owners.filter(owner => owner === member).length;
    for (let partition = 0; partition < this.partitions; partition++) {
      const owner = group.owners[partition];
      if (owner && of(owner) <= shareMax) continue;
      this.give(
        group,
        partition,
        active.reduce((least, member) => (of(member) < of(least) ? member : least)),
      );
    }
  }

  private give(group: Group, partition: number, to: Member): void {
    const from = group.owners[partition];
    if (from === to) return;
    group.owners[partition] = to;
    if (from) this.tell(from, 'revoked', partition, this.waits.revoke());
    this.tell(to, 'assigned', partition, this.waits.assign());
  }

  private tell(member: Member, kind: keyof On, partition: number, ms: number): void {
    member.news.push({ kind, partition });
    this.later(member.life, ms, `hears that partition ${partition} is ${kind}`, () => this.listen(member));
  }

  /** Hears the oldest news first. */
  private listen(member: Member): void {
    if (member.closed) return;
    if (member.life && this.waits.isCut(member.life)) {
      this.later(member.life, againMs, 'cannot hear its group', () => this.listen(member));
      return;
    }
    const news = member.news.shift();
    if (news) this.hear(member, news.kind, news.partition);
  }

  private hear(member: Member, kind: keyof On, partition: number): void {
    if (kind === 'assigned' ? member.holds.has(partition) : !member.holds.delete(partition)) return;
    if (kind === 'assigned') member.holds.add(partition);
    member.on[kind](partition);
  }
}
