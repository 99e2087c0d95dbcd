/** One way to get it wrong: a text of the core, which stands there exactly once, and what stands there instead. */
export interface Mutant {
  name: string;
  /** Below src. */
  file: string;
  find: string;
  replace: string;
}
