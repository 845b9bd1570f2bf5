// Runs first in each fresh context and gives back `start(script, data)`, which gives back `poll(most)`.
// What it needs is taken before the script can change it; what a script breaks afterwards is its own result alone.
(() => {
  "use strict";
  const AsyncFunction = (async () => {}).constructor;
  const { parse, stringify } = JSON;
  const { isArray } = Array;
  const { isFinite } = Number;
  const { keys } = Object;
  const { apply, set } = Reflect;
  const { toString } = Object.prototype;
  const { slice } = String.prototype;
  const text = String;

  class Unstorable {
    constructor(message) {
      this.message = message;
    }
  }
  const PENDING = 0, RETURNED = 1, THREW = 2;
  const ROOTS = { __proto__: null, trigger: 1, steps: 1, env: 1, vars: 1, input: 1 };
  const REFUSED = { __proto__: null };
  for (const name of ["Map", "Set", "WeakMap", "WeakSet", "WeakRef", "Promise", "RegExp", "Error", "ArrayBuffer",
    "SharedArrayBuffer", "DataView", "Int8Array", "Uint8Array", "Uint8ClampedArray", "Int16Array", "Uint16Array",
    "Int32Array", "Uint32Array", "BigInt64Array", "BigUint64Array", "Float16Array", "Float32Array", "Float64Array"]) {
    REFUSED[`[object ${name}]`] = name;
  }
  const silent = () => {};
  globalThis.console = { debug: silent, log: silent, info: silent, warn: silent, error: silent };

  const refuse = (key, what) => {
    throw new Unstorable(`${key === "" ? "The returned value" : `The member ${stringify(key)}`} is ${what}`);
  };
  const check = (key, value) => {
    switch (typeof value) {
      case "number":
        return isFinite(value) ? value : refuse(key, text(value));
      case "bigint":
        return refuse(key, "a BigInt");
      case "function":
      case "symbol":
        return refuse(key, `a ${typeof value}`);
      case "object":
        if (value !== null && !isArray(value)) {
          const kind = REFUSED[apply(toString, value, [])];
          if (kind !== undefined) refuse(key, `of type ${kind}`);
        }
    }
    return value;
  };
  const failure = (kind, name, message, stack) =>
    "f" + stringify({ kind, name, message: apply(slice, message, [0, 2000]), stack: apply(slice, stack, [0, 4000]) });
  const explain = (reason, phase) => {
    try {
      // An engine without memory for an error throws null.
      if (reason === null) return failure("memory", "", "", "");
      if (reason instanceof Unstorable) return failure("result", "", reason.message, "");
      if (!(reason instanceof Error)) {
        return failure("error", "", text(typeof reason === "object" ? stringify(reason) : text(reason)), "");
      }
      const name = text(reason.name), message = text(reason.message), stack = text(reason.stack);
      if (name === "InternalError" && (message === "out of memory" || message === "string too long")) {
        return failure("memory", name, message, stack);
      }
      if (name === "RangeError" && message === "Maximum call stack size exceeded") {
        return phase === "result"
          ? failure("result", name, "The returned value is nested too deeply", "")
          : failure("stack", name, message, stack);
      }
      if (phase === "result" && name === "TypeError" && message === "circular reference") {
        return failure("result", name, "The returned value contains itself", "");
      }
      return failure(phase === "compile" ? "syntax" : "error", name, message, stack);
    } catch {
      return failure("error", "", "a value that can't be read", "");
    }
  };

  let state = PENDING, value, phase = "compile";
  const run = async (script, data) => {
    try {
      const context = parse(data);
      for (const name of keys(context)) {
        if (!(name in ROOTS)) set(globalThis, name, context[name]);
      }
      globalThis.context = globalThis.ctx = context;
      const body = new AsyncFunction(script);
      phase = "run";
      value = await body();
      phase = "result";
      state = RETURNED;
    } catch (reason) {
      value = reason;
      state = THREW;
    }
  };
  const poll = (most) => {
    if (state === PENDING) return "";
    if (state === THREW) return explain(value, phase);
    try {
      const json = stringify(value, check) ?? "null";
      return json.length > most ? failure("output", "", "", "") : "v" + json;
    } catch (reason) {
      return explain(reason, phase);
    }
  };
  return (script, data) => {
    run(script, data);
    return poll;
  };
})()
