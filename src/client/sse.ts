/**
 * Server-sent events, read incrementally: text may be cut anywhere, lines end with LF, CRLF or CR.
 * https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
 */

export interface SseEvent {
  /** `message` when the stream names none. */
  event: string;
  data: string;
  /** The last id seen on the stream, which is what `Last-Event-ID` repeats. */
  lastEventId: string;
}

/** UTF-16 units of one event or unfinished line: no server of ours comes near it. */
const eventLengthMax = 256 * 1024;

export class SseParser {
  lastEventId: string;
  /** What the server last asked for, in ms. */
  retryMs: number | undefined;

  #rest = '';
  #skipLineFeed = false;
  #event = '';
  #data = '';
  #hasData = false;
  /** Holds from the end of its event on: one that is cut off was not heard. */
  #id: string;

  constructor(lastEventId = '') {
    this.lastEventId = lastEventId;
    this.#id = lastEventId;
  }

  /**
   * The events that `text` completes.
   * @throws Error when an event grows beyond 256 Ki: the stream is not ours.
   */
  push(text: string): SseEvent[] {
    const events: SseEvent[] = [];
    let from = 0;
    if (this.#skipLineFeed && text.length > 0) {
      if (text.charCodeAt(0) === 10) from = 1;
      this.#skipLineFeed = false;
    }
    for (let at = from; at < text.length; at++) {
      const unit = text.charCodeAt(at);
      if (unit !== 10 && unit !== 13) continue;
      this.#line(this.#rest + text.slice(from, at), events);
      this.#rest = '';
      if (unit === 13) {
        if (at + 1 === text.length) this.#skipLineFeed = true;
        else if (text.charCodeAt(at + 1) === 10) at++;
      }
      from = at + 1;
    }
    this.#rest += text.slice(from);
    if (this.#rest.length + this.#data.length > eventLengthMax) throw new Error('an event of the stream is too long');
    return events;
  }

  #line(line: string, events: SseEvent[]): void {
    if (line === '') {
      this.#dispatch(events);
      return;
    }
    const colon = line.indexOf(':');
    if (colon === 0) return;
    const field = colon < 0 ? line : line.slice(0, colon);
    const start = colon < 0 ? line.length : colon + (line.charCodeAt(colon + 1) === 32 ? 2 : 1);
    const value = line.slice(start);
    switch (field) {
      case 'data':
        this.#data = this.#hasData ? `${this.#data}\n${value}` : value;
        this.#hasData = true;
        return;
      case 'event':
        this.#event = value;
        return;
      case 'id':
        if (!value.includes('\0')) this.#id = value;
        return;
      case 'retry':
        if (/^[0-9]{1,9}$/.test(value)) this.retryMs = Number(value);
        return;
      default:
      // Unknown fields are for later versions.
    }
  }

  #dispatch(events: SseEvent[]): void {
    this.lastEventId = this.#id;
    if (this.#hasData) {
      events.push({ event: this.#event || 'message', data: this.#data, lastEventId: this.lastEventId });
    }
    this.#event = '';
    this.#data = '';
    this.#hasData = false;
  }
}
