/** A reporter of node's test runner that says nothing, unless there was no test to run: a name that matches none is no success. */
import type { TestEvent } from 'node:test/reporters';

export default async function* someRan(source: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  let found = 0;
  for await (const { type, data } of source) {
    if (type !== 'test:summary') continue;
    // Of the whole run it has no name, and counts each file as a test, too. A suite that is skipped has none to count,
    // and a file that broke off says nothing of its own.
    if (data.file !== undefined) found += data.counts.tests + data.counts.suites;
    else if (data.success && found === 0) {
      process.exitCode = 1;
      yield 'no test ran: the name matches none\n';
    }
  }
}
