/** What a process was given and must not say is looked for in all that it prints, line by line as it comes. */
import type { Readable } from 'node:stream';

/** Lines that say it are kept, at most so many and so much of each. */
const foundMax = 20;
const shownMax = 400;
/** A line that is longer is looked at in parts. */
const lineLengthMax = 1_000_000;

/** In Base64 what stands before shifts it: three forms, without the letters that it shares with its neighbours. */
function base64Of(word: string): string[] {
  return [0, 1, 2].flatMap(shift => {
    const bytes = Buffer.concat([Buffer.alloc(shift), Buffer.from(word)]);
    const own = [Math.ceil((shift * 8) / 6), Math.floor((bytes.length * 8) / 6)] as const;
    return (['base64', 'base64url'] as const).map(code => bytes.toString(code).slice(...own));
  });
}

/** The forms in which a word might be written. */
export function formsOf(word: string): string[] {
  const plain = [word, encodeURIComponent(word), JSON.stringify(word).slice(1, -1)];
  return [...new Set([...plain, Buffer.from(word).toString('hex'), ...base64Of(word)])];
}

/** Of settings by name: what none of their processes may say. */
export function secretsOf(flags: Readonly<Record<string, string>>): string[] {
  const passwords = Object.values(flags).map(value => decodeURIComponent(URL.parse(value)?.password ?? ''));
  return [flags.secret, flags.jwtSecret, ...passwords].filter(word => word !== undefined && word !== '') as string[];
}

/** The address with a password, which servers of our own ask nobody for: it is there to be kept. */
export function withPassword(databaseUrl: string): string {
  const url = new URL(databaseUrl);
  url.password ||= 'a-password-that-nobody-asks-for';
  return url.href;
}

export class Unsaid {
  /** Lines that say it. */
  readonly found: string[] = [];
  private readonly forms: readonly string[];
  private readonly more: (line: string) => boolean;

  /** `more`: whether a line says what has no fixed form. */
  constructor(secrets: readonly string[], more: (line: string) => boolean = () => false) {
    this.forms = secrets.flatMap(formsOf);
    this.more = more;
  }

  /** Reads all of it. `line` gets each line too. */
  listen(output: Readable | null, line: (text: string) => void = () => {}): void {
    let rest = '';
    const hear = (text: string) => {
      this.look(text);
      line(text);
    };
    output?.setEncoding('utf8').on('data', (text: string) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop() as string;
      if (rest.length > lineLengthMax) lines.push(rest.slice(0, -shownMax));
      if (rest.length > lineLengthMax) rest = rest.slice(-shownMax);
      lines.forEach(hear);
    });
    output?.on('end', () => {
      if (rest !== '') hear(rest);
    });
  }

  private look(line: string): void {
    if (this.found.length >= foundMax) return;
    const at = this.forms.map(form => line.indexOf(form)).find(place => place >= 0);
    if (at === undefined && !this.more(line)) return;
    this.found.push(line.slice(Math.max(0, (at ?? 0) - shownMax / 2)).slice(0, shownMax));
  }
}
