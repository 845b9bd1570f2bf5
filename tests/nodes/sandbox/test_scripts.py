"""What scripts can do, what they can't, and what each limit says: in real children."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from gorax_engine.nodes.api import Classification, StepError
from gorax_engine.nodes.sandbox.faults import MAX_MESSAGE, ScriptFailed
from gorax_engine.nodes.sandbox.pool import MIB, Sandbox, SandboxOptions, Script

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(SandboxOptions(processes=1, max_input=2 * MIB, max_output=MIB)) as running:
        yield running


async def run(
    sandbox: Sandbox, body: str, context: Mapping[str, Any] | None = None, seconds: float = 5, memory: int = 32 * MIB
) -> Any:
    return await sandbox.run(Script(body, context or {}, seconds, memory))


async def fail(sandbox: Sandbox, body: str, **options: Any) -> StepError:
    with pytest.raises(ScriptFailed) as caught:
        await run(sandbox, body, **options)
    return caught.value.error


@pytest.mark.parametrize(
    ("body", "value"),
    [
        ("return 1 + 1", 2),
        ("", None),
        ("return undefined", None),
        ("return null", None),
        ("return {a: undefined, b: [undefined, 1.5, -0], c: 'ü\u2028😀'}", {"b": [None, 1.5, 0], "c": "ü\u2028😀"}),
        ("return new Date(0)", "1970-01-01T00:00:00.000Z"),
        ("return Object.create(null)", {}),
        ("return [new Number(1), new String('x'), new Boolean(true)]", [1, "x", True]),
        ("return new (class Point { constructor() { this.x = 1 } })", {"x": 1}),
        ("return {toJSON: () => 5}", 5),
        ("// a comment\nreturn 1 // and another", 1),
        ("function double(n) { return n * 2 }\nreturn [1, 2].map(double)", [2, 4]),
        ("return (async () => { await null; return 3 })()", 3),
        ("const parts = await Promise.all([1, Promise.resolve(2)])\nreturn parts", [1, 2]),
        ("for (let i = 0; i < 10000; i++) await null\nreturn 'done'", "done"),
        ("return {then: resolve => resolve(7)}", 7),
        ("Promise.reject(new Error('nobody looks'))\nreturn 2", 2),
        ("console.log('x'); console.error('y'); return 1", 1),
        ("try { (function f() { f() })() } catch (e) { return e.name }", "RangeError"),
        ("return new Date(2026, 0, 1).toISOString()", "2026-01-01T00:00:00.000Z"),
        ("let n = 0; const f = i => { n = i; f(i + 1) }; try { f(1) } catch {} return n > 1500", True),
    ],
)
async def test_a_script_gives_its_value(sandbox: Sandbox, body: str, value: Any) -> None:
    assert await run(sandbox, body) == value


async def test_a_script_sees_its_context_and_the_variables_of_loops(sandbox: Sandbox) -> None:
    context = {"trigger": {"n": 1}, "steps": {"a-1": {"b": [1]}}, "env": {}, "vars": {"v": 2}, "input": "x", "item": 5}
    assert await run(sandbox, "return context", context) == context
    assert await run(sandbox, "return [ctx === context, item, ctx.item, typeof input]", context) == [
        True, 5, 5, "undefined",
    ]  # fmt: skip
    assert await run(sandbox, "ctx.steps.new = 1; ctx.vars = 3; return [ctx.steps.new, ctx.vars]", context) == [1, 3]
    assert await run(sandbox, "const {steps, ...rest} = ctx; return Object.keys(rest)", context) == [
        "trigger", "env", "vars", "input", "item",
    ]  # fmt: skip
    assert await run(sandbox, "return Object.freeze(ctx).trigger.n", context) == 1


async def test_an_odd_variable_does_no_harm(sandbox: Sandbox) -> None:
    context = {"NaN": 1, "undefined": 2, "JSON": 3, "Object": 4, "context": 5, "not a name": 6, "__proto__": 7}
    assert await run(sandbox, "return [JSON, Object, ctx['not a name'], typeof context]", context) == [
        3, 4, 6, "object",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "code", "message", "line"),
    [
        ("let a = {}\nreturn a.b.c", "script_error", "The script threw in line 2: TypeError: cannot read prop", 2),
        ("function f() {\n  throw new RangeError('no')\n}\nf()", "script_error", "line 2: RangeError: no", 2),
        ("await null\nthrow new Error('late')", "script_error", "The script threw in line 2: Error: late", 2),
        ("let a = 1;\nlet b = ;", "script_error", "The script can't be read in line 2: SyntaxError: ", 2),
        ("}\n{", "script_error", "The script can't be read in line 2: SyntaxError", 2),
        ("import os from 'os'", "script_error", "The script can't be read in line 1", 1),
        ("\n\nJSON.parse('{')", "script_error", "The script threw in line 3: SyntaxError", 3),
        ("throw 'plain'", "script_error", "The script threw: plain", None),
        ("throw {why: 1}", "script_error", 'The script threw: {"why":1}', None),
        ("throw undefined", "script_error", "The script threw: undefined", None),
        ("throw new Proxy({}, {get() { throw 1 }})", "script_error", "a value that can't be read", None),
        ("throw Object.create(Error.prototype, {stack: {get() { throw 1 }}})", "script_error", "can't be read", None),
        ("const e = new Error('x'); e.name = 'y'.repeat(1e6); throw e", "script_error", "yyy", 1),
        ("queueMicrotask(() => { throw new Error('x') })\nawait null; await null", "script_error", "A microtask", None),
        ("return await import('os')", "script_error", "could not load module 'os'", None),
        ("return new Promise(() => {})", "script_result", "a promise that nothing will ever settle", None),
        ("return NaN", "script_result", "The returned value is NaN, which JSON can't hold.", None),
        ("return {total: 1 / 0}", "script_result", 'The member "total" of what it returned is Infinity, which', None),
        ("return 10n", "script_result", "The returned value is a BigInt, which JSON can't hold.", None),
        ("return {f() {}}", "script_result", 'The member "f" of what it returned is a function, which', None),
        ("return [Symbol('x')]", "script_result", 'The member "0" of what it returned is a symbol, which', None),
        ("return new Map([[1, 2]])", "script_result", "The returned value is of type Map, which", None),
        ("return {a: new Uint8Array(3)}", "script_result", 'The member "a" of what it returned is of type Uint8', None),
        ("return /x/", "script_result", "of type RegExp", None),
        ("const a = {}; a.a = a; return a", "script_result", "The returned value contains itself, which", None),
        ("let a = []; for (let i = 0; i < 1e5; i++) a = [a]; return a", "script_result", "nested too deeply", None),
        ("let a = []; for (let i = 0; i < 100; i++) a = [a]; return a", "script_result", "can't be stored", None),
        ("return '\\0'", "script_result", "NUL", None),
        ("return '\\ud800'", "script_result", "can't be stored", None),
        ("return {toJSON() { throw new Error('mine') }}", "script_error", "Error: mine", 1),
        ("return {get a() { for (;;); }}", "script_timeout", "longer than 0.3 s", None),
        ("for (;;);", "script_timeout", "The script took longer than 0.3 s.", None),
        ("try { for (;;); } catch { return 1 } finally { for (;;); }", "script_timeout", "longer than", None),
        ("for (;;) await null", "script_timeout", "longer than", None),
        (
            "(function spin() { Promise.resolve().then(spin) })(); await new Promise(() => {})",
            "script_timeout",
            "",
            None,
        ),
        ("return /(a+)+$/.test('a'.repeat(40) + 'b')", "script_timeout", "longer than", None),
        ("return [1, 2].sort(() => { for (;;); })", "script_timeout", "longer than", None),
        ("let s = 'xy'; for (;;) s += s + 'z'", "script_memory", "ran out of its 32 MiB of memory", None),
        ("const a = []; for (;;) a.push('x'.repeat(1e6) + a.length)", "script_memory", "ran out of", None),
        ("const a = []; for (;;) a.push(new Uint8Array(1e6))", "script_memory", "ran out of", None),
        ("globalThis.a = []; for (;;) a.push([])", "script_memory", "ran out of", None),
        ("let a = []; for (;;) a = [a, new Array(1000).fill(a)]", "script_memory", "ran out of", None),
        ("return new ArrayBuffer(1e10)", "script_error", "", 1),
        ("return new ArrayBuffer(1e9).byteLength", "script_memory", "ran out of", None),
        ("new Map(Array.from({length: 1e9}, (_, i) => [i, i]))", "script_memory", "ran out of", None),
        ("(function f(n) { return f(n + 1) + 1 })(0)", "script_stack", "The script called itself too deeply.", 1),
        ("const f = async () => { await f() }; await f()", "script_stack", "too deeply", 1),
        ("const o = {get a() { return this.a }}; return o.a", "script_stack", "too deeply", 1),
        ("return 'x'.repeat(2e6)", "script_output_too_large", "The script returned more than 1 MiB of JSON.", None),
        ("return '\u20ac'.repeat(9e5)", "script_output_too_large", "more than 1 MiB", None),
        ("return Array.from({length: 3e5}, (_, i) => i)", "script_output_too_large", "more than 1 MiB", None),
        ("throw new Error('x'.repeat(1e6))", "script_error", "xxx", 1),
        ("throw new Error('\\0\\ud800')", "script_error", "\ufffd", 1),
    ],
)
async def test_each_failure_has_its_code_and_sentence(
    sandbox: Sandbox, body: str, code: str, message: str, line: int | None
) -> None:
    error = await fail(sandbox, body, seconds=0.3 if code == "script_timeout" else 5)
    assert (error.code, error.details.get("line")) == (code, line), error
    assert message in error.message
    assert len(error.message) < MAX_MESSAGE + 300
    assert error.classification is Classification.PERMANENT
    assert await run(sandbox, "return 'well'") == "well"


async def test_there_is_nothing_of_a_host(sandbox: Sandbox) -> None:
    names = "require process fetch std os setTimeout module exports Deno WebSocket print load scriptArgs Worker global"
    for way in ("eval", "(0, eval)", "new Function('x', 'return eval(x)')", "[].at.constructor('x', 'return eval(x)')"):
        body = f"return ctx.input.filter(name => ({way})('typeof ' + name) !== 'undefined')"
        assert await run(sandbox, body, {"input": names.split()}) == []


async def test_every_global_is_the_language_s_own(sandbox: Sandbox) -> None:
    names = await run(sandbox, "return Object.getOwnPropertyNames(globalThis)", {"item": 1})
    assert set(names) == GLOBALS | {"item"}


@pytest.mark.parametrize(
    "module", ["os", "std", "qjs:os", "qjs:std", "bjson", "./x.js", "/etc/passwd", "data:text/javascript,1"]
)
async def test_no_module_can_be_imported(sandbox: Sandbox, module: str) -> None:
    body = f"try {{ await import('{module}'); return 'imported' }} catch (e) {{ return e.name }}"
    assert await run(sandbox, body) == "ReferenceError"


async def test_nothing_that_a_script_changes_is_there_for_the_next(sandbox: Sandbox) -> None:
    await run(
        sandbox,
        """
        globalThis.left = 1
        Object.prototype.left = 2
        Array.prototype.map = () => 'mine'
        Promise.prototype.then = () => { throw 1 }
        JSON.stringify = () => '"mine"'
        Object.defineProperty(Object.prototype, 'toJSON', {value: () => 'mine'})
        context.input.push(1)
        console.log = 1
        """,
        {"input": []},
    )
    body = "return [typeof left, ({}).left, [1].map(x => x), JSON.stringify(1), ctx.input, typeof console.log, await 2]"
    assert await run(sandbox, body, {"input": []}) == ["undefined", None, [1], "1", [], "function", 2]


@pytest.mark.parametrize(
    "body",
    [
        "JSON.stringify = JSON.parse = () => 'forged'; return {a: 1}",
        "Promise.prototype.then = () => {}; Promise.resolve = () => {}; return {a: 1}",
        "Number.isFinite = Array.isArray = Reflect.apply = () => false; return {a: 1}",
        "Object.prototype.toString = String.prototype.slice = () => 'x'; return {a: 1}",
        "globalThis.Error = globalThis.Object = globalThis.Array = 1; return {a: 1}",
        "const g = globalThis; for (const name of Object.getOwnPropertyNames(g)) delete g[name]; return {a: 1}",
    ],
)
async def test_a_script_that_breaks_the_language_still_gives_its_value(sandbox: Sandbox, body: str) -> None:
    assert await run(sandbox, body) == {"a": 1}


@pytest.mark.parametrize(
    "body",
    [
        "globalThis.Error = 1; null.x",
        "JSON.stringify = () => { throw 1 }; null.x",
        "String.prototype.slice = () => { for (;;); }; throw new Error('x')",
        "String.prototype.toWellFormed = () => ({}); throw new Error('x')",
        "JSON.stringify = () => 'v1'; throw new Error('x')",
        "JSON.stringify = () => 'x'.repeat(1e7); throw new Error('x')",
        "JSON.stringify = () => undefined; throw new Error('x')",
        "Object.defineProperty(Error, Symbol.hasInstance, {value: () => { throw 1 }}); throw new Error('x')",
    ],
)
async def test_a_script_that_breaks_the_language_can_t_hide_that_it_failed(sandbox: Sandbox, body: str) -> None:
    error = await fail(sandbox, body, seconds=0.3)
    assert error.code in {"script_error", "script_timeout", "script_crashed"}
    assert await run(sandbox, "return 'well'") == "well"


async def test_more_context_than_is_allowed_is_refused_before_a_child_sees_it(sandbox: Sandbox) -> None:
    error = await fail(sandbox, "return 1", context={"input": "x" * (2 * MIB)})
    assert error.code == "script_input_too_large"
    assert error.message == "`context` would have more than 2 MiB of JSON."


async def test_large_input_and_output_pass(sandbox: Sandbox) -> None:
    text = "ü" * (MIB // 2 - 10)
    assert await run(sandbox, "return ctx.input", {"input": text}) == text


async def test_what_a_script_does_not_look_at_is_not_parsed(sandbox: Sandbox) -> None:
    many: list[list[int]] = [[] for _ in range(100_000)]
    assert await run(sandbox, "return 1", {"steps": many}, memory=4 * MIB) == 1
    error = await fail(sandbox, "return ctx.steps.length", context={"steps": many}, memory=4 * MIB)
    assert error.code == "script_memory"


async def test_no_script_gets_more_memory_than_the_pool_allows() -> None:
    async with Sandbox(SandboxOptions(processes=1, heap=16 * MIB)) as small:
        error = await fail(small, "return new Uint8Array(20e6).length", memory=1 << 40)
        assert error.message.startswith("The script ran out of its 16 MiB")


GLOBALS = set(
    """AggregateError Array ArrayBuffer AsyncDisposableStack Atomics BigInt BigInt64Array BigUint64Array Boolean
    DOMException DataView Date DisposableStack Error EvalError FinalizationRegistry Float16Array Float32Array
    Float64Array Function Infinity Int16Array Int32Array Int8Array InternalError Iterator JSON Map Math NaN Number
    Object Promise Proxy RangeError ReferenceError Reflect RegExp Set SharedArrayBuffer String SuppressedError
    Symbol SyntaxError TypeError URIError Uint16Array Uint32Array Uint8Array Uint8ClampedArray WeakMap WeakRef
    WeakSet atob btoa console context ctx decodeURI decodeURIComponent encodeURI encodeURIComponent escape eval
    globalThis isFinite isNaN parseFloat parseInt performance queueMicrotask undefined unescape""".split()  # noqa: SIM905 - a list of words is read more easily
)
