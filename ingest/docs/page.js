// The page, put together.
import { loadContract } from "./contract.js";
import { markContents } from "./contents.js";
import { codePanels } from "./code.js";
import { byId } from "./dom.js";
import { examplesFor } from "./examples.js";
import { RecordForm } from "./form.js";
import { Inspector } from "./inspector.js";
import { showReference } from "./reference.js";
import { problems, send, toRequest } from "./request.js";
import { LANGUAGES, snippets } from "./snippets.js";
import { switchTheme } from "./switch.js";
import { verdict } from "./verdict.js";

const BASE = new URL(".", location.href).href.replace(/\/$/, "");

/** Wire form, code and inspector; every change of the form is a change of the code. */
function startTrying(contract) {
  const fields = contract.fields();
  const apiKey = contract.apiKey();
  const target = { base: BASE, path: contract.operation("recordUsage").path, keyHeader: apiKey?.header };
  const request = () => toRequest(fields, form.read(), target);
  const inspector = new Inspector(byId("inspector"));
  const showCode = codePanels(byId("code"), LANGUAGES);
  const update = () => showCode(snippets(request()));
  const valid = Object.fromEntries(fields.map(({ name, example }) => [name, example?.toString()]));
  const form = new RecordForm(byId("form"), fields, apiKey, {
    examples: examplesFor(valid),
    onChange: update,
    onSend: () => trySending(form, inspector, problems(fields, form.read()), request),
  });
  form.fill(valid);
  update();
}

async function trySending(form, inspector, wrong, request) {
  if (form.busy) return;
  if (form.showErrors(wrong)) {
    announce("Not sent: see the marked fields.");
    return;
  }
  form.busy = true;
  const sent = request();
  const answer = await send(sent).catch(() => null);
  form.busy = false;
  const { code, sentence, details } = verdict(answer);
  const marked = form.showErrors(details);
  const isAllMarked = marked > 0 && marked === Object.keys(details).length;
  const told = isAllMarked ? `${code}: see the marked field${marked > 1 ? "s" : ""}.` : sentence;
  inspector.add(sent, answer, told);
  announce(answer ? `${answer.status} ${answer.reason} after ${answer.ms.toFixed(0)} ms. ${told}` : told);
  if (!marked) byId("inspector").scrollIntoView({ block: "nearest" });
}

function announce(sentence) {
  byId("announcement").textContent = sentence;
}

switchTheme(byId("theme"));
try {
  const contract = await loadContract();
  showReference(contract);
  startTrying(contract);
  markContents(document.querySelectorAll(".contents a"));
  document.body.dataset.ready = "";
} catch (error) {
  byId("failure").textContent = `The API cannot be described: ${error.message}.`;
  byId("failure").hidden = false;
}
