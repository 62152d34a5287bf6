// Colours for code: enough of each language's grammar to tell keys, texts, numbers and comments apart.
import { element } from "./dom.js";

const TOKENS = new RegExp(
  [
    String.raw`(?<comment>^[ \t]*(?:#|//).*$)`,
    String.raw`(?<key>"(?:[^"\\]|\\.)*"(?=\s*:))`,
    String.raw`(?<text>"(?:[^"\\]|\\.)*"|'[^'\n{]*')`,
    String.raw`(?<number>(?<![\w./:-])-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.]))`,
    String.raw`(?<word>\b(?:from|import|with|as|const|await|print|curl|true|false|null)\b|(?<=\s)-[dHi]\b)`,
  ].join("|"),
  "gm",
);

/** The code, in pieces that the style sheet colours. */
export function highlight(code) {
  const pieces = [];
  let end = 0;
  for (const match of code.matchAll(TOKENS)) {
    const [kind] = Object.entries(match.groups).find(([, found]) => found !== undefined);
    pieces.push(code.slice(end, match.index), element("span", { class: kind }, match[0]));
    end = match.index + match[0].length;
  }
  return [...pieces, code.slice(end)];
}

/** A block of code that can be scrolled by keyboard, too. */
export function block(code, label) {
  return element("pre", { tabindex: "0", "aria-label": label }, element("code", {}, highlight(code)));
}
