// What an answer means to who has sent the record.

const UNKNOWN =
  "No answer came. Whether the record arrived is not known: " +
  "with the same idempotencyKey it may be sent again, and counts once.";

/** {code, sentence, details}: details are for the fields, field -> sentence. `answer` is null when none came. */
export function verdict(answer) {
  if (answer === null) return { code: "", sentence: UNKNOWN, details: {} };
  if (answer.status === 200) return { code: "", sentence: "Recorded: it is on disk.", details: {} };
  const { error = answer.text, code = "ERROR", details } = parsed(answer.text);
  const isAccess = answer.status === 401 || answer.status === 403;
  const byField = typeof details === "object" && details !== null ? details : {};
  return { code, sentence: `${code}: ${error}`, details: isAccess ? { apiKey: error } : byField };
}

/** An error's body; what a proxy says instead is no JSON, and is shown as it is. */
function parsed(text) {
  try {
    return Object(JSON.parse(text));
  } catch {
    return {};
  }
}
