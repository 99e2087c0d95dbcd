/** What the holders of tasks were told: the end that the log gives, always the same, once, and to each. */
import type { Asked, Request } from './asked.ts';
import type { Found } from './findings.ts';
import { type AskTask, type Frame, type HistoryLine, type Issue, isAccepted, isUnknown, type Told } from './history.ts';
import { type Claimant, canBe } from './orders.ts';
import { endOf, type Truth } from './truth.ts';

type Line = Frame | AskTask | Issue;

interface Task {
  call: Issue;
  /** Ends that the log allows: of each entry that may be this call's. */
  ends: Set<string>;
  /** Entries in front of the last of those. */
  aheadMax: number;
  told: { end: string; line: Line }[];
  /** That it has won or is set aside, asked for since `begun`. */
  waits: { state: string; line: Line; begun: number }[];
}

const ranks: Record<string, number> = { accepted: 0, reserved: 1, set_aside: 2, done: 3 };

export function checkTold(
  history: readonly HistoryLine[],
  asked: Asked,
  truth: Truth,
  aside: ReadonlySet<string>,
  found: Found,
): void {
  const tasks = tasksOf(history, asked, truth, found);
  const streams = new Map<number, Frame[]>();
  for (const line of history) {
    if (line.op === 'frame') {
      const frames = streams.get(line.stream);
      if (frames) frames.push(line);
      else streams.set(line.stream, [line]);
    }
    if (line.op !== 'frame' && line.op !== 'task') continue;
    const task = tasks.get(line.task);
    const begun = line.op === 'task' ? line.from : (streams.get(line.stream)?.[0]?.at ?? line.at);
    if (line.op === 'task' && line.status === 404 && task)
      found.add('contradicted', 'its task is said to be unknown', task.call, line);
    if (line.op === 'task' && line.status !== 200) continue;
    if (task) note(task, line, line.body ?? {}, begun, found);
    else if (asked.hasAllOf(line.body?.couponId)) found.add('unexpected', 'told of a task that nobody was given', line);
  }
  for (const frames of streams.values()) checkStream(frames, found);
  const slots = new Map<string, Task>();
  for (const [taskId, task] of tasks) {
    checkTask(taskId, task, aside, found);
    checkSlot(task, slots, found);
  }
  for (const request of asked.requests.values()) checkTogether(request, tasks, asked, found);
}

function tasksOf(history: readonly HistoryLine[], asked: Asked, truth: Truth, found: Found): Map<string, Task> {
  const tasks = new Map<string, Task>();
  for (const call of history) {
    if (call.op !== 'issue') continue;
    const taskId = call.body?.taskId;
    if (taskId === undefined) {
      if (call.status === 202 || call.status === 200) found.add('unanswered', 'accepted without a task', call);
      continue;
    }
    const isAnswer = call.status === 200;
    const entries = isAnswer ? (asked.requestOf(call)?.entries ?? []) : asked.entriesOf(call);
    // Without an entry it is lost, and said so elsewhere.
    const aheadMax = entries.length === 0 ? Infinity : Math.max(...entries.map(({ line }) => line.offset));
    const task: Task = { call, ends: new Set(entries.map(endOf)), aheadMax, told: [], waits: [] };
    if (tasks.has(taskId)) found.add('duplicated', 'two requests with one task', tasks.get(taskId)?.call, call);
    tasks.set(taskId, task);
    note(task, call, call.body as Told, call.from, found);
    if (!isAnswer) continue;
    const win = truth.sales.get(call.coupon)?.wins.get(call.user);
    // Without a key each press is a request of its own.
    const isHeld = call.key !== undefined && win && entries.includes(win.entry) && win.slot === call.body?.slot;
    if (!isHeld || win.entry.line.offset >= asked.placesOf(call.coupon).high(call.to ?? Number.POSITIVE_INFINITY)) {
      found.add('contradicted', 'told of a win that was none of this request by then', call, win?.entry.line);
    }
  }
  return tasks;
}

function note(task: Task, line: Line, told: Told, begun: number, found: Found): void {
  const { call } = task;
  const { state, slot, ahead = 0 } = told;
  const isOther =
    (line.op !== 'issue' && (told.taskId ?? call.body?.taskId) !== call.body?.taskId) ||
    (told.couponId ?? call.coupon) !== call.coupon;
  if (isOther) found.add('contradicted', 'told of another task', line, call);
  // Nobody knows of a task before the answer that gives it out.
  if (line.op !== 'issue' && begun < (call.to ?? call.from))
    found.add('contradicted', 'told before its task was given out', line, call);
  if (!(Number.isInteger(ahead) && ahead >= 0 && ahead <= task.aheadMax))
    found.add('contradicted', `told that ${ahead} are ahead`, line, call);
  if (state === undefined || !Object.hasOwn(ranks, state) || !maySay(line, state)) {
    found.add('contradicted', `told ${state}, which it cannot be here`, line, call);
    return;
  }
  if (state === 'done') task.told.push({ end: wordsOf(told), line });
  // The service names none before the end; one who does must name the right one.
  else if (slot !== undefined && !task.ends.has(`issued ${slot}`))
    found.add('contradicted', `told to be ${state} with slot ${slot}, which it did not win`, line, call);
  if (state !== 'reserved' && state !== 'set_aside') return;
  task.waits.push({ state, line, begun });
  const won = [...task.ends].some(end => end.startsWith('issued'));
  if (!won) found.add('contradicted', `told to be ${state}, and did not win`, line, call);
}

/** A 202 says accepted, a 200 and an outcome say the end, progress says what comes before it. */
function maySay(line: Line, state: string): boolean {
  switch (line.op) {
    case 'issue':
      return state === (line.status === 200 ? 'done' : 'accepted');
    case 'frame':
      return line.event === (state === 'done' ? 'outcome' : 'progress');
    case 'task':
      return true;
  }
}

const outcomeOf: Record<string, string> = {
  ...{ sold_out: 'inactive', not_open: 'inactive', closed: 'inactive' },
  ...{ malformed: 'refused', unknown_coupon: 'refused' },
};

/** As `endOf` has it; a reason that does not go with the outcome is no end. */
function wordsOf({ outcome, reason, slot }: Told): string {
  if (outcome === 'issued' || outcome === 'duplicated') return `${outcome} ${slot}`;
  return outcome !== undefined && outcome === outcomeOf[`${reason}`] ? `${reason}` : `${outcome} for ${reason}`;
}

const isWin = (end: string): boolean => /^(issued|duplicated) /.test(end);
const heardAt = (line: Line): number => (line.op === 'frame' ? line.at : (line.to ?? line.from));

function checkTask(taskId: string, { call, ends, told, waits }: Task, aside: ReadonlySet<string>, found: Found): void {
  const [first] = told;
  const isAside = aside.has(`${call.coupon} ${call.user}`);
  if (!first) {
    // What waits for a redrive is the win and who came after it, not who lost before.
    if (!isAside || ![...ends].some(isWin)) found.add('unanswered', `task ${taskId} was never told how it ended`, call);
    return;
  }
  const toldAt = Math.min(...told.map(({ line }) => heardAt(line)));
  // A ledger that is rebuilt may say `accepted` again, and nothing else.
  for (const { state, line, begun } of waits)
    if (begun > toldAt) found.add('contradicted', `told ${first.end}, then to be ${state}`, first.line, line);
  for (const { end, line } of told) {
    // A row that was committed never becomes a dead letter.
    if (isAside && isWin(end)) found.add('contradicted', `told ${end}, without a row`, line, call);
    if (end !== first.end) found.add('contradicted', `told ${first.end}, then ${end}`, first.line, line);
    // Without an entry it is lost, and was said so.
    if (ends.size > 0 && !ends.has(end)) {
      found.add('contradicted', `told ${end}, the log gives ${[...ends].join(' or ')}`, line, call);
    }
  }
}

/** What each call was told may be right of one of the entries, and of all calls together be wrong. */
function checkTogether(request: Request, tasks: ReadonlyMap<string, Task>, asked: Asked, found: Found): void {
  const { calls, coupon, entries } = request;
  const [accepted, unknown] = [calls.filter(isAccepted), calls.filter(isUnknown)];
  const hasAll = asked.hasAllOf(coupon);
  // What is lost or was not asked for is said elsewhere.
  if (entries.length < accepted.length || (hasAll && entries.length > accepted.length + unknown.length)) return;
  const taskOf = ({ body }: Issue): Task | undefined => tasks.get(body?.taskId ?? '');
  // So is what is wrong of one call alone.
  if (accepted.some(call => taskOf(call)?.told.some(({ end }) => !taskOf(call)?.ends.has(end)))) return;
  const places = asked.placesOf(coupon);
  const claimants = [...accepted, ...unknown].map((call): Claimant => {
    const must = isAccepted(call);
    const to = (must ? call.to : undefined) ?? Number.POSITIVE_INFINITY;
    return {
      from: call.from,
      to,
      low: places.low(call.from),
      high: places.high(to),
      must,
      end: endToldTo(taskOf(call)),
    };
  });
  const ended = entries.map(judged => ({ offset: judged.line.offset, end: endOf(judged) }));
  if (canBe(ended, claimants, hasAll)) return;
  const lines = entries.map(({ line }) => line);
  const told = accepted.flatMap(call => taskOf(call)?.told[0]?.line ?? []);
  found.add('contradicted', 'told what no order of these calls gives', ...accepted, ...told, ...unknown, ...lines);
}

/** Who is reserved or set aside has won, and need not have heard more. */
function endToldTo(task: Task | undefined): string | undefined {
  const won = () => [...(task?.ends ?? [])].find(end => end.startsWith('issued'));
  return task?.told[0]?.end ?? (task && task.waits.length > 0 ? won() : undefined);
}

function checkSlot(task: Task, slots: Map<string, Task>, found: Found): void {
  const end = task.told[0]?.end ?? '';
  if (!end.startsWith('issued')) return;
  const slot = `${task.call.coupon} ${end}`;
  const other = slots.get(slot);
  if (!other) slots.set(slot, task);
  else if (other.call.user !== task.call.user) {
    found.add('duplicated', `two users are told: ${end}`, other.told[0]?.line, task.told[0]?.line);
  }
}

function checkStream(frames: readonly Frame[], found: Found): void {
  let before: Frame | undefined;
  let ahead = Number.POSITIVE_INFINITY;
  for (const frame of frames) {
    if (before && goesBack(before, frame, ahead)) found.add('out_of_order', 'a stream went back', before, frame);
    before = frame;
    ahead = Math.min(ahead, frame.body.ahead ?? ahead);
  }
}

/** `ahead`: the least that the stream said. */
function goesBack(before: Frame, frame: Frame, ahead: number): boolean {
  if (frame.at < before.at || frame.task !== before.task || before.event === 'outcome') return true;
  if (frame.event === 'outcome') return false;
  return rankOf(frame) < rankOf(before) || (frame.body.ahead ?? 0) > ahead;
}

const rankOf = ({ body }: Frame): number => ranks[body.state ?? ''] ?? 0;
