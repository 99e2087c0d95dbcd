/** The library: run dibs in your own process, and add consumers of your own to its logs. */
export { type App, type Options, start } from './app.ts';
export { type Config, loadConfig } from './config.ts';
export {
  type Change,
  changeLog,
  decodeChange,
  decodeEntry,
  type Entry,
  type LogEntry,
  requestLog,
  type Won,
} from './entry.ts';
export { Alarm, NotAccepted, OutcomeUnknown, Refused, Unavailable } from './errors.ts';
export { type Batch, defineStage, type Stage, type StageDefinition } from './stage.ts';
