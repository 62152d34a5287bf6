// The request in several languages, one at a time.
import { copyButton } from "./copy.js";
import { element } from "./dom.js";
import { highlight } from "./highlight.js";
import { tabs } from "./tabs.js";

/** Put tabs for these languages into `root`; returns the function that shows code: language -> text. */
export function codePanels(root, languages) {
  const bodies = Object.fromEntries(languages.map((language) => [language, element("code")]));
  const panels = Object.fromEntries(languages.map((language) => [language, panel(language, bodies[language])]));
  root.append(tabs("Language", "code", panels), ...Object.values(panels));
  return (codes) => {
    for (const language of languages) bodies[language].replaceChildren(...highlight(codes[language]));
  };
}

function panel(language, body) {
  const copy = copyButton(() => body.textContent, `Copy the ${language} code`);
  return element("div", {}, copy, element("pre", { tabindex: "0", "aria-label": language }, body));
}
