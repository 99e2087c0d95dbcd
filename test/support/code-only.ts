/**
 * Code without what is only said in it: comments, and the insides of strings, templates and regular expressions, are
 * blank. Lines and columns stay where they are. TypeScript's own parser tells where a literal ends: expressions that
 * look for quotes take the code between two apostrophes of a template for a string.
 */
import { type Node, SyntaxKind } from 'typescript/unstable/ast';
import { createVirtualFileSystem } from 'typescript/unstable/fs';
import { API } from 'typescript/unstable/sync';

/** How many characters of its own a literal has at its begin and end, which stay: code around `''` reads as before. */
const delimiters: { readonly [kind in SyntaxKind]?: readonly [begin: number, end: number] } = {
  [SyntaxKind.StringLiteral]: [1, 1],
  [SyntaxKind.NoSubstitutionTemplateLiteral]: [1, 1],
  [SyntaxKind.TemplateHead]: [1, 2],
  [SyntaxKind.TemplateMiddle]: [1, 2],
  [SyntaxKind.TemplateTail]: [1, 1],
  // Without its slashes no slash is left that begins a comment and is none.
  [SyntaxKind.RegularExpressionLiteral]: [0, 0],
};

const blank = (text: string): string => text.replace(/[^\n]/g, ' ');

/** Of each text, in their order. All at once, since each call starts a parser. */
export function codeOnly(texts: readonly string[]): string[] {
  const names = texts.map((_, i) => `/code/${i}.ts`);
  const options = { noResolve: true, noLib: true, types: [] };
  const config = JSON.stringify({ compilerOptions: options, files: names });
  const files = { ...Object.fromEntries(texts.map((text, i) => [names[i], text])), '/code/tsconfig.json': config };
  const api = new API({ cwd: '/code', fs: createVirtualFileSystem(files) });
  try {
    const snapshot = api.updateSnapshot({ openProjects: ['/code/tsconfig.json'] });
    const program = snapshot.getProject('/code/tsconfig.json')?.program;
    return texts.map((text, i) => {
      const source = program?.getSourceFile(names[i] as string);
      if (source?.text !== text) throw new Error(`the parser did not read text ${i}: ${text.slice(0, 80)}`);
      return withoutComments(withoutLiterals(source, text));
    });
  } finally {
    api.close();
  }
}

function withoutLiterals(source: Node, text: string): string {
  let [out, at] = ['', 0];
  const look = (node: Node): void => {
    const kept = delimiters[node.kind];
    if (!kept) return void node.forEachChild(look);
    const [from, to] = [node.getStart() + kept[0], node.end - kept[1]];
    out += text.slice(at, from) + blank(text.slice(from, to));
    at = to;
  };
  look(source);
  return out + text.slice(at);
}

/** Where no literal has a slash any more. */
const withoutComments = (text: string): string => text.replace(/\/\*[\s\S]*?\*\/|\/\/[^\n]*/g, blank);
