// A button that copies a text.
import { button, element } from "./dom.js";

const SHOWN = 1500; // ms

/** Copy what `text()` returns when it is asked. */
export function copyButton(text, label) {
  const say = (word) => copier.replaceChildren(word);
  const act = async () => {
    say((await copy(text())) ? "Copied" : "Select and copy");
    setTimeout(say, SHOWN, "Copy");
  };
  const copier = button("Copy", act, { class: "quiet copy", "aria-label": label });
  return copier;
}

/** Whether it worked. Browsers have a clipboard on secure origins only; elsewhere there is the old command. */
async function copy(text) {
  if (!navigator.clipboard) return copyByCommand(text);
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

function copyByCommand(text) {
  const carrier = element("textarea", { class: "unseen", "aria-hidden": "true" }, text);
  document.body.append(carrier);
  const focused = document.activeElement;
  carrier.select();
  const copied = document.execCommand("copy");
  carrier.remove();
  focused?.focus();
  return copied;
}
