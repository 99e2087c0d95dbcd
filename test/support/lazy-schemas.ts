/**
 * The Kafka client compiles the schemas of all its options when it is loaded, a fifth of the CPU of a start, and uses a
 * fourth of them. In a process of a test they are compiled when they are first asked, and not held against the schema
 * of schemas. To be imported before it.
 */
import { createRequire } from 'node:module';

interface Compiler {
  opts: { validateSchema?: boolean };
  compile(schema: unknown): Validate;
}
type Validate = ((...args: unknown[]) => unknown) & { errors?: unknown };

// The one that the client has.
const require = createRequire(import.meta.resolve('@platformatic/kafka'));
const { prototype } = (require('ajv/dist/core.js') as { default: { prototype: Compiler } }).default;
const { compile } = prototype;

prototype.compile = function (this: Compiler, schema: unknown) {
  let compiled: Validate | undefined;
  const lazy: Validate = (...args) => {
    this.opts.validateSchema = false;
    compiled ??= compile.call(this, schema);
    const valid = compiled(...args);
    lazy.errors = compiled.errors;
    return valid;
  };
  return lazy;
};
