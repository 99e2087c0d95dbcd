/** The comparison as one page: three kinds of pictures and the tables, readable without a network. */
import { bars, escaped, timeLines } from './compare-plots.ts';
import { type Comparison, cellsOf, type FaultRun, faultMeasures, measures, type Run } from './compare-report.ts';
import { number } from './terminal.ts';

const colours = ['#1d7a5f', '#c8374a', '#c98a14', '#2b62a8', '#7a4fa3', '#555555'];

const style = `
  :root { color-scheme: light; }
  body { font: 15px/1.5 system-ui, sans-serif; color: #1c2430; background: #f6f7f9; margin: 0; }
  main { max-width: 960px; margin: 0 auto; padding: 32px 20px 60px; }
  h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 19px; margin: 36px 0 4px; } h3 { font-size: 15px; margin: 0 0 2px; }
  p { margin: 4px 0 12px; color: #4a5566; max-width: 75ch; }
  section { background: #fff; border: 1px solid #e1e5eb; border-radius: 8px; padding: 18px 20px; margin: 14px 0; }
  table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
  th, td { text-align: right; padding: 4px 10px; border-bottom: 1px solid #edf0f4; white-space: nowrap; }
  th:first-child, td:first-child { text-align: left; padding-left: 0; white-space: pre-wrap; } thead th { border-bottom: 2px solid #cfd6df; }
  tr:last-child td { border-bottom: 0; } .scroll { overflow-x: auto; }
  svg { width: 100%; height: auto; display: block; font: 12px system-ui, sans-serif; }
  .grid { stroke: #e8ebf0; } .tick { fill: #5b6676; } .name { font-weight: 600; font-size: 12.5px; } .head { font-weight: 600; font-size: 13px; fill: #1c2430; }`;

export function pageOf(comparison: Comparison): string {
  const { at, machine, seed, targets, runs, thrownAway } = comparison;
  const crowds = [...new Set(runs.map(run => run.crowd))];
  const sections = crowds.map(crowd =>
    crowdSection(
      crowd,
      runs.filter(run => run.crowd === crowd),
      targets,
    ),
  );
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>dibs: before and after, side by side</title><style>${style}
</style></head><body><main>
<h1>Before and after, side by side</h1>
<p>The same crowds, arriving at the same random moments (seed ${seed}) whether or not others were answered, against
${escaped(targets.join(', '))}. Times count from when a user meant to press. ${escaped(at)}, ${escaped(machine)}.</p>
${sections.join('\n')}
${faultSection(comparison)}
${awaySection(thrownAway)}
</main></body></html>
`;
}

function awaySection(thrownAway: readonly string[]): string {
  if (thrownAway.length === 0)
    return '<p>No round was thrown away: the yardstick, bare node:http, stayed within a quarter.</p>';
  const items = thrownAway.map(why => `<li>${escaped(why)}</li>`).join('');
  return `<h2>Thrown away</h2><section><p>The yardstick moved by more than a quarter, so the machine was not the same.</p><ul>${items}</ul></section>`;
}

const colourOf = (targets: readonly string[], target: string): string =>
  colours[targets.indexOf(target) % colours.length] as string;

/** Of several rounds the pictures show the first that was kept. */
function crowdSection(crowd: string, runs: readonly Run[], targets: readonly string[]): string {
  const shown = targets.flatMap(target => runs.find(run => run.target === target) ?? []);
  const results = shown.map(({ target, resultSeries }) => ({
    name: target,
    colour: colourOf(targets, target),
    points: resultSeries.map((ms, i) => [ms, i] as const),
  }));
  const issued = shown.map(({ target, issuedOverTime }) => ({
    name: target,
    colour: colourOf(targets, target),
    points: untilLast(issuedOverTime),
  }));
  const stock = shown[0]?.stock ?? 1;
  return `<h2>${escaped(crowd)}</h2>
<section><h3>When users knew the true result</h3>
<p>Share of the users who had been told by then: issued or sold out, by the push, by asking every second where nothing is pushed, or at the door.</p>
${timeLines(results, { yMax: 100, yText: y => `${y} %`, title: `${crowd}: time of the result` })}</section>
<section><h3>Issued over time</h3>
<p>Rows in the store, since the first user pressed.</p>
${timeLines(issued, { yMax: stock, yText: y => number(Math.round(y)), title: `${crowd}: issued over time` })}</section>
<section><div class="scroll">${table(
    targets,
    measures.map(measure => [measure.name, ...cellsOf(measure, runs, targets)]),
  )}</div></section>`;
}

/** The line ends where nothing more came. */
function untilLast(samples: Run['issuedOverTime']): [number, number][] {
  const last = samples.findIndex(([, issued]) => issued === samples.at(-1)?.[1]);
  return samples.slice(0, last + 1).map(([ms, issued]) => [Math.max(ms, 10), issued]);
}

function faultSection({ faults, targets }: Comparison): string {
  if (faults.length === 0) return '';
  const names = [...new Set(faults.map(run => run.fault))];
  const groups = names.map(name => ({
    name: `${name}: requests that were accepted and lost`,
    bars: faults
      .filter(run => run.fault === name)
      .map(run => ({
        label: run.target,
        colour: colourOf(targets, run.target),
        value: run.lost,
        text: `${number(run.lost)} of ${number(run.accepted)}${run.lost === 0 ? '' : '; they wait for ever'}`,
      })),
  }));
  const tables = names.map(name => {
    const own = faults.filter(run => run.fault === name);
    const cell = (target: string, of: (run: FaultRun) => number) => {
      const run = own.find(one => one.target === target);
      return run ? number(of(run)) : '-';
    };
    const rows = faultMeasures.map(({ name, of }) => [name, ...targets.map(target => cell(target, of))]);
    const [first] = own;
    return `<h3>${escaped(name)}, ${number(first?.users ?? 0)} users for ${number(first?.stock ?? 0)}</h3><div class="scroll">${table(targets, rows)}</div>`;
  });
  return `<h2>What is lost when something dies in mid-sale</h2>
<section>${bars(groups, 'lost requests by fault')}</section>
<section>${tables.join('<br>')}</section>`;
}

const table = (heads: readonly string[], rows: readonly (readonly string[])[]): string =>
  `<table><thead><tr><th></th>${heads.map(head => `<th>${escaped(head)}</th>`).join('')}</tr></thead><tbody>${rows
    .map(cells => `<tr>${cells.map(cell => `<td>${escaped(cell)}</td>`).join('')}</tr>`)
    .join('')}</tbody></table>`;
