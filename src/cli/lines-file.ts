/** A file of JSON, one object a line. Whatever is wrong with it is one sentence. */
import { once } from 'node:events';
import { createWriteStream, type WriteStream } from 'node:fs';
import { finished } from 'node:stream/promises';
import { CommandError } from './connect.ts';

export class LinesFile {
  private readonly path: string;
  private readonly stream: WriteStream;

  private constructor(path: string, stream: WriteStream) {
    this.path = path;
    this.stream = stream;
    // `write` and `end` tell of it.
    stream.on('error', () => {});
  }

  /** What was in it is gone. @throws CommandError */
  static async open(path: string): Promise<LinesFile> {
    const stream = createWriteStream(path);
    try {
      await once(stream, 'open');
    } catch (error) {
      throw faultOf(path, error);
    }
    return new LinesFile(path, stream);
  }

  /** At once, however much waits to be written. */
  note(value: object): void {
    this.stream.write(`${JSON.stringify(value)}\n`);
  }

  /** Resolves when there is room for the next. @throws CommandError */
  async write(value: object): Promise<void> {
    const { errored } = this.stream;
    if (errored) throw faultOf(this.path, errored);
    if (this.stream.write(`${JSON.stringify(value)}\n`)) return;
    try {
      await once(this.stream, 'drain');
    } catch (error) {
      throw faultOf(this.path, error);
    }
  }

  /** Resolves when all of it is in the file. @throws CommandError */
  async end(): Promise<void> {
    this.stream.end();
    try {
      await finished(this.stream);
    } catch (error) {
      throw faultOf(this.path, error);
    }
  }
}

export const faultOf = (path: string, error: unknown, code?: number): CommandError =>
  new CommandError(`${path} cannot be written (${(error as NodeJS.ErrnoException).code}): name another file`, code);
