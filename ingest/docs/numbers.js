// Numbers as text: what is sent, digit by digit, and what a double would make of it.

const JSON_NUMBER = /^(-?)(0|[1-9][0-9]*)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?$/;

/** A number by its JSON text, which no arithmetic touches. */
export class Numeral {
  constructor(text) {
    this.text = text;
  }

  /** Whether JavaScript, and every client that reads numbers as doubles, would send the same value. */
  get fitsDouble() {
    const double = canonical(String(Number(this.text)));
    return double !== null && double === canonical(this.text);
  }

  get isInteger() {
    return /^-?[0-9]+$/.test(this.text);
  }
}

export const isNumeral = (text) => JSON_NUMBER.test(text);

/** One spelling for each value: sign, digits without zeros at either end, exponent; null for what is no number. */
function canonical(text) {
  const match = JSON_NUMBER.exec(text);
  if (match === null) return null;
  const [, sign, whole, part = "", exponent = "0"] = match;
  const digits = (whole + part).replace(/^0+/, "");
  const significant = digits.replace(/0+$/, "");
  if (significant === "") return "0";
  return `${sign}${significant}e${Number(exponent) - part.length + digits.length - significant.length}`;
}
