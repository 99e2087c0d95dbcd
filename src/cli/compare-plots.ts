/** Plots as inline SVG: lines over a logarithmic time, and bars. No script, nothing from a network. */

export interface Series {
  name: string;
  colour: string;
  points: readonly (readonly [x: number, y: number])[];
}

const [width, height] = [720, 320];
const frame = { left: 56, right: 24, top: 34, bottom: 36 };
const inner = { width: width - frame.left - frame.right, height: height - frame.top - frame.bottom };
/** Where a decade is narrower only its beginning is named. */
const decadePx = 150;

export const escaped = (text: string): string =>
  text.replace(/[&<>"]/g, c => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c] as string);

const timeText = (ms: number): string => (ms < 1_000 ? `${ms} ms` : `${ms / 1_000} s`);

/** y runs from 0 to `yMax`; x is ms, on a logarithmic scale from the decade of the least to that of the greatest. */
export function timeLines(
  series: readonly Series[],
  { yMax, yText, title }: { yMax: number; yText: (y: number) => string; title: string },
): string {
  const xs = series.flatMap(({ points }) => points.map(([x]) => Math.max(1, x)));
  const [from, to] = [Math.floor(Math.log10(Math.min(...xs, 10))), Math.log10(Math.max(...xs, 100) * 1.05)];
  const x = (ms: number) => frame.left + ((Math.log10(Math.max(10 ** from, ms)) - from) / (to - from)) * inner.width;
  const y = (value: number) => frame.top + inner.height - (value / yMax) * inner.height;
  const parts: string[] = [];
  for (let decade = from; decade <= to; decade++) {
    for (const step of [1, 2, 5]) {
      const ms = step * 10 ** decade;
      if (ms > 10 ** to) continue;
      const at = x(ms).toFixed(1);
      parts.push(`<line class="grid" x1="${at}" x2="${at}" y1="${frame.top}" y2="${frame.top + inner.height}"/>`);
      const isNamed = step === 1 || (step === 5 && inner.width / (to - from) > decadePx);
      if (isNamed)
        parts.push(
          `<text class="tick" x="${at}" y="${height - frame.bottom + 18}" text-anchor="middle">${timeText(ms)}</text>`,
        );
    }
  }
  for (let i = 0; i <= 4; i++) {
    const value = (yMax * i) / 4;
    const at = y(value).toFixed(1);
    parts.push(`<line class="grid" x1="${frame.left}" x2="${frame.left + inner.width}" y1="${at}" y2="${at}"/>`);
    parts.push(
      `<text class="tick" x="${frame.left - 8}" y="${Number(at) + 4}" text-anchor="end">${escaped(yText(value))}</text>`,
    );
  }
  for (const { colour, points } of series) {
    const path = points
      .map(([ms, value], i) => `${i === 0 ? 'M' : 'L'}${x(ms).toFixed(1)} ${y(value).toFixed(1)}`)
      .join('');
    parts.push(`<path d="${path}" fill="none" stroke="${colour}" stroke-width="2.2" stroke-linejoin="round"/>`);
  }
  return svg([...parts, ...legend(series)], title, height);
}

/** Names in a row above the plot, each with a piece of its line. */
function legend(series: readonly Series[]): string[] {
  let x = frame.left;
  return series.map(({ name, colour }) => {
    const at = x;
    x += 52 + name.length * 8;
    return `<path d="M${at} 12h18" stroke="${colour}" stroke-width="3"/><text class="name" x="${at + 24}" y="16" fill="${colour}">${escaped(name)}</text>`;
  });
}

export interface Bar {
  label: string;
  colour: string;
  value: number;
  text: string;
}

/** Horizontal bars in groups, all on one scale. */
export function bars(groups: readonly { name: string; bars: readonly Bar[] }[], title: string): string {
  const [rowPx, headPx, left] = [22, 30, 110];
  const most = Math.max(1, ...groups.flatMap(group => group.bars.map(bar => bar.value)));
  const parts: string[] = [];
  let top = 0;
  for (const group of groups) {
    parts.push(`<text class="head" x="0" y="${top + 19}">${escaped(group.name)}</text>`);
    top += headPx;
    for (const { label, colour, value, text } of group.bars) {
      const length = (value / most) * (width - left - 260);
      parts.push(`<text class="tick" x="${left - 8}" y="${top + 15}" text-anchor="end">${escaped(label)}</text>`);
      parts.push(
        `<rect x="${left}" y="${top + 3}" width="${Math.max(1.5, length).toFixed(1)}" height="${rowPx - 6}" fill="${colour}" rx="2"/>`,
      );
      parts.push(`<text class="tick" x="${(left + length + 8).toFixed(1)}" y="${top + 15}">${escaped(text)}</text>`);
      top += rowPx;
    }
    top += 8;
  }
  return svg(parts, title, top);
}

const svg = (parts: readonly string[], title: string, high: number): string =>
  `<svg viewBox="0 0 ${width} ${high}" role="img" aria-label="${escaped(title)}">${parts.join('')}</svg>`;
