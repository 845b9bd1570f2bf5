// Runs first in each fresh context, so it is short: compiling it is a good part of what a call costs. It gives back
// `start(script, names, ...values)`, which gives back `poll(most, explain)`: the JSON of the script's value; 0 while there
// is none, 1 if it is too large, 2 if the script has failed, or, with `explain` (explain.js), the JSON of what that says.
// Texts that are put together can't be given back: the binding doesn't know them.
// What it needs is taken before the script can change it; what a script breaks afterwards is its own result alone.
(() => {
  "use strict";
  const AsyncFunction = (async () => {}).constructor;
  const { parse, stringify } = JSON;
  const { isArray } = Array;
  const { isFinite } = Number;
  const { apply, defineProperty, set } = Reflect;
  const { toString } = Object.prototype;
  const ROOTS = { __proto__: null, trigger: 1, steps: 1, env: 1, vars: 1, input: 1 };
  const STORED = { __proto__: null, "[object Object]": 1, "[object Arguments]": 1, "[object Boolean]": 1,
    "[object Number]": 1, "[object String]": 1 };
  const silent = () => {};
  globalThis.console = { debug: silent, log: silent, info: silent, warn: silent, error: silent };

  let done = false, failed = false, value, phase = "syntax";
  const check = (key, item) => {
    const type = typeof item;
    if (type === "string" || type === "boolean" || item === null || item === undefined || isArray(item)) return item;
    if (type === "number" ? isFinite(item) : type === "object" && apply(toString, item, []) in STORED) return item;
    phase = "refused";
    throw [key, item];
  };
  // The outputs of all steps may be large, and a script looks at few: what it doesn't touch is never parsed.
  const offer = (context, name, json) => {
    let ready = false, item;
    const put = (next) => {
      item = next;
      ready = true;
    };
    const get = () => {
      if (!ready) put(parse(json));
      return item;
    };
    defineProperty(context, name, { get, set: put, enumerable: true, configurable: true });
  };
  // Its name marks the end of the script's own part of a stack trace.
  const $script = async (script, names, values) => {
    try {
      const context = {};
      const all = parse(names);
      for (let index = 0; index < all.length; index++) {
        const name = all[index];
        offer(context, name, values[index]);
        if (!(name in ROOTS)) set(globalThis, name, context[name]);
      }
      globalThis.context = globalThis.ctx = context;
      const body = new AsyncFunction(script);
      phase = "run";
      value = await body();
      phase = "result";
    } catch (reason) {
      value = reason;
      failed = true;
    }
    done = true;
  };
  const poll = (most, explain) => {
    if (!done) return 0;
    if (failed) return explain ? stringify(explain(value, phase)) : 2;
    try {
      const json = stringify(value, check) ?? "null";
      return json.length > most ? 1 : json;
    } catch (reason) {
      value = reason;
      failed = true;
      return 2;
    }
  };
  return (script, names, ...values) => {
    $script(script, names, values);
    return poll;
  };
})()
