// Says why a script has failed, from what it threw and when: while it was read (syntax), run, turned into JSON
// (result), or because JSON doesn't have what it returned (refused). Evaluated in the context of the script, afterwards.
(reason, phase) => {
  "use strict";
  const cut = (text, most) => String(text).slice(0, most).toWellFormed();
  const tell = (kind, name, message, stack) =>
    ({ __proto__: null, kind, name: cut(name, 200), message: cut(message, 2000), stack: cut(stack, 4000) });
  const describe = (value) => {
    if (typeof value === "number") return String(value);
    if (typeof value === "object") return `of type ${Object.prototype.toString.call(value).slice(8, -1)}`;
    return typeof value === "bigint" ? "a BigInt" : `a ${typeof value}`;
  };
  try {
    if (phase === "refused") {
      const [key, value] = reason;
      const where = key === "" ? "The returned value" : `The member ${JSON.stringify(key)} of what it returned`;
      return tell("result", "", `${where} is ${describe(value)}`, "");
    }
    // An engine that has no memory left for an error throws null.
    if (reason === null) return tell("memory", "", "", "");
    if (!(reason instanceof Error)) {
      return tell("error", "", typeof reason === "object" ? JSON.stringify(reason) : String(reason), "");
    }
    const name = String(reason.name), message = String(reason.message);
    if (name === "InternalError" && (message === "out of memory" || message === "string too long")) {
      return tell("memory", "", "", "");
    }
    if (name === "RangeError" && message === "Maximum call stack size exceeded") {
      return phase === "result"
        ? tell("result", "", "The returned value is nested too deeply", "")
        : tell("stack", "", "", reason.stack);
    }
    if (phase === "result" && name === "TypeError" && message === "circular reference") {
      return tell("result", "", "The returned value contains itself", "");
    }
    return tell(phase === "syntax" ? "syntax" : "error", name, message, reason.stack);
  } catch {
    return { __proto__: null, kind: "error", name: "", message: "a value that can't be read", stack: "" };
  }
}
