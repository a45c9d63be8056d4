"""`--plugin`: a backend from outside is listed, verified, timed and compared like any other, and what
is no plugin is refused in one sentence.

$ATTNBENCH and $ATTN_EXAMPLE_PLUGIN name the program and the example; the broken plugins are made
from the example's source with the C compiler.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent)]

import program  # noqa: E402
from program import ROOT, Record  # noqa: E402

EXAMPLE = os.environ.get("ATTN_EXAMPLE_PLUGIN", "")
COMPILER = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), "")
SMALL = ["--device", "cpu", "--dtype", "f32", "--N", "48", "--D", "8"]

# The example as another backend: `functions` come before, `change` is done to its description.
VARIANT = """
#define attnbench_plugin example_plugin
#include "harness/plugin/example.c"
#undef attnbench_plugin
static AttnbenchBackend changed;
{functions}
const AttnbenchPlugin* attnbench_plugin(void) {{
  static const AttnbenchBackend* const list[] = {{&changed, &changed}};
  static AttnbenchPlugin plugin;
  (void)example_plugin;
  plugin = (AttnbenchPlugin){{ATTNBENCH_PLUGIN_ABI, sizeof plugin, list, 1}};
  changed = example;
  changed.id = "changed";
  {change};
  return &plugin;
}}
"""
OWN_ENQUEUE = """
static const char* own_enqueue(const AttnbenchBackend* self, const AttnbenchLaunch* launch,
                               void* stream) {{
  const char* answer = enqueue(self, launch, stream);
  float* out = (float*)attnbench_tensor(launch->problem, "out")->data;
  {}
  return answer;
}}
"""
PLAN = """
static const char* own_plan(const AttnbenchBackend* self, AttnbenchLaunch* launch) {
  launch->state = self->context;
  launch->note = "planned";
  if (attnbench_field(launch->problem, "M")->number == 2) launch->numerics = "fp64";
  if (attnbench_field(launch->problem, "M")->number == 5) launch->numerics = "about";
  return attnbench_field(launch->problem, "M")->number == 3 ? "three is too many" : NULL;
}
static const char* own_enqueue(const AttnbenchBackend* self, const AttnbenchLaunch* launch,
                               void* stream) {
  return launch->state == &changed ? enqueue(self, launch, stream) : "the state was lost";
}
static void own_release(const AttnbenchBackend* self, AttnbenchLaunch* launch) {
  (void)self;
  puts(launch->state == &changed ? "released" : "the state was lost");
}
"""


def fnv1a(data: bytes) -> str:
    state = 0xcbf29ce484222325
    for byte in data:
        state = (state ^ byte) * 0x100000001b3 % (1 << 64)
    return f"{state:016x}"


class Plugin(program.ProgramTest):
    def setUp(self) -> None:
        super().setUp()
        shutil.copy(EXAMPLE, self.root / "libexample.so")

    def verify(self, library: str, backend: str, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run_it("verify", "colreduce", "--plugin", f"./{library}", "--backend", backend,
                           *SMALL, "--out", "out", *words)

    def build(self, change: str = "", functions: str = "", name: str = "libchanged.so") -> str:
        self.compile(VARIANT.format(functions=functions, change=change), name)
        return name

    def compile(self, source: str, name: str) -> None:
        subprocess.run([COMPILER, "-shared", "-fPIC", "-O1", f"-I{ROOT}", "-x", "c", "-", "-lm",
                        "-include", "stdio.h", "-include", "stdlib.h", "-o", self.root / name],
                       input=source, text=True, check=True)

    def cells(self) -> list[Record]:
        return self.records("cell")


class Works(Plugin):
    def test_it_is_listed_behind_the_programs_own(self) -> None:
        listed = self.run_it("list", "--plugin", "libexample.so").stdout
        self.assertRegex(listed, r"(?s)cpu_fused .*\n    example +a plugin: .*\n  suites\n")
        self.assertNotIn("example ", self.run_it("list").stdout)
        matrix = self.run_it("list", "--supports", "--plugin", "libexample.so").stdout
        self.assertIn("example, window: every option but mask and layout must be default", matrix)

    def test_it_passes_what_it_takes_of_the_edge_cases(self) -> None:
        result = self.run_it("verify", "colreduce", "--plugin", "./libexample.so", "--suite", "edge",
                             "--backend", "example", "--device", "cpu",
                             "--where", "M<=300 && N<=300", "--out", "out")
        self.assertEqual(result.returncode, 0, result.stdout)
        statuses = [cell["status"] for cell in self.cells()]
        self.assertGreater(statuses.count("OK"), 20)
        self.assertEqual(set(statuses), {"OK", "UNSUPPORTED"})
        self.validate()

    def test_rows_name_the_file_and_repeat_the_cell(self) -> None:
        result = self.run_it("verify", "colreduce", "--plugin", "./libexample.so", *SMALL,
                             "--backend", "cpu_reference,example", "--mask", "causal", "--layout",
                             "bshd", "--M", "9", "--out", "out")
        self.assertEqual(result.returncode, 0, result.stderr)
        own, cell = self.cells()
        self.assertNotIn("plugin", own)
        self.assertNotIn("--plugin", own["repro"])
        content = (self.root / "libexample.so").read_bytes()
        self.assertEqual(cell["plugin"], {"file": "libexample.so", "hash": fnv1a(content)})
        self.assertEqual((cell["status"], cell["math"], cell["class"]), ("OK", "fp32", "fp32_P"))
        self.run_it(*cell["repro"].split()[1:], "--out", "again")
        (again,) = [json.loads(line) for line in
                    (self.root / "again" / "rows.jsonl").read_text().splitlines()[1:]]
        self.assertEqual(again["check"], cell["check"])
        self.validate()

    def test_another_file_is_another_cell(self) -> None:
        self.verify("libexample.so", "example", "--M", "4")
        self.verify("libexample.so", "example", "--M", "4")
        self.assertEqual(len(self.cells()), 1, "the same file is resumed")
        self.build('changed.id = "example"', name="libexample.so")
        self.verify("libexample.so", "example", "--M", "4")
        self.assertEqual(len({cell["key"] for cell in self.cells()}), 2)

    def test_it_is_timed(self) -> None:
        self.run_it("bench", "colreduce", "--plugin", "libexample.so", "--backend", "example", *SMALL,
                    "--M", "8", "--sample-seconds", "0.01", "--out", "out")
        (cell,) = self.cells()
        self.assertEqual(cell["status"], "OK", cell["reason"])
        self.assertGreater(cell["time"]["cold"]["median"], 0)
        self.validate()

    def test_it_is_compared(self) -> None:
        for a, b in (("cpu_reference", "example"), ("example", "cpu_reference")):
            self.run_it("compare", a, b, "--plugin", "libexample.so", *SMALL, "--M", "16", "--cache",
                        "hot", "--cell-seconds", "0.3", "--out", "out")
        for row in [row for row in self.records("compare") if not row["control"]]:
            self.assertEqual(row["status"], "OK", row["reason"])
            self.assertIn("--plugin libexample.so", row["repro"])
        self.assertEqual(len({cell["key"] for cell in self.cells()}), 2)
        self.validate()

    def test_a_plan_is_made_once_kept_and_released(self) -> None:
        library = self.build("changed.plan = own_plan; changed.enqueue = own_enqueue;"
                             "changed.release = own_release; changed.context = &changed", PLAN)
        result = self.verify(library, "changed", "--M", "4,3", "--in-process")
        planned, refused = self.cells()
        self.assertEqual((planned["status"], planned["plan"]), ("OK", "planned"))
        self.assertEqual((refused["status"], refused["reason"]), ("CRASH", "three is too many"))
        self.assertEqual(result.stdout.count("released"), 1)

    def test_a_plan_names_the_error_bound(self) -> None:
        library = self.build("changed.plan = own_plan; changed.enqueue = own_enqueue;"
                             "changed.release = own_release; changed.context = &changed", PLAN)
        self.verify(library, "changed", "--M", "2,4,5")
        strict, own, unknown = self.cells()
        self.assertEqual((strict["class"], strict["status"]), ("fp64", "INCORRECT"))
        self.assertEqual((own["class"], own["status"]), ("fp32_P", "OK"))
        self.assertIn("has numerics 'about', not one of fp64,", unknown["reason"])

    def test_kept_memory_is_asked_for(self) -> None:
        library = self.build("changed.trim = own_trim",
                             'static void own_trim(const AttnbenchBackend* self) '
                             '{ (void)self; puts("trimmed"); }')
        result = self.verify(library, "changed", "--M", "4", "--in-process")
        self.assertEqual(result.stdout.count("trimmed"), 2, "between the two runs, and at the end")

    def test_one_from_before_there_was_trim(self) -> None:
        library = self.build("changed.trim = (void (*)(const AttnbenchBackend*))1;"
                             "changed.size = offsetof(AttnbenchBackend, trim)")
        self.verify(library, "changed", "--M", "4")
        (cell,) = self.cells()
        self.assertEqual(cell["status"], "OK", cell["reason"])

    def test_two_plugins_at_once(self) -> None:
        library = self.build()
        result = self.verify(library, "example,changed", "--plugin", "libexample.so", "--M", "4")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual({cell["plugin"]["file"] for cell in self.cells()},
                         {"libexample.so", "libchanged.so"})


class IsCaught(Plugin):
    """What is wrong with a plugin's answers is found as in any other backend."""

    def broken(self, code: str) -> Record:
        library = self.build("changed.enqueue = own_enqueue", OWN_ENQUEUE.format(code))
        self.assertEqual(self.verify(library, "changed", "--M", "4").returncode, 1)
        (cell,) = self.cells()
        self.validate()
        return cell

    def test_a_wrong_element(self) -> None:
        self.assertEqual(self.broken("out[5] *= 1.001f;")["status"], "INCORRECT")

    def test_a_kept_answer(self) -> None:
        cell = self.broken("static float kept[48]; static int filled = 0;"
                           "if (!filled) memcpy(kept, out, sizeof kept);"
                           "filled = 1; memcpy(out, kept, sizeof kept);")
        self.assertEqual(cell["status"], "INCORRECT")

    def test_a_write_outside(self) -> None:
        cell = self.broken("((float*)launch->workspace)[48] = 1;")
        self.assertEqual((cell["status"], cell["reason"]),
                         ("INCORRECT", "wrote outside its workspace"))

    def test_a_complaint(self) -> None:
        cell = self.broken('answer = "the lake is empty";')
        self.assertEqual((cell["status"], cell["reason"]), ("CRASH", "the lake is empty"))

    def test_memory_that_ran_out(self) -> None:
        library = self.build("changed.enqueue = own_enqueue",
                             OWN_ENQUEUE.format("(void)out; answer = ATTNBENCH_OUT_OF_MEMORY;"))
        self.verify(library, "changed", "--M", "4")
        (cell,) = self.cells()
        self.assertEqual((cell["status"], cell["reason"]), ("OOM", "memory ran out"))

    def test_an_abort_ends_only_the_worker(self) -> None:
        library = self.build("changed.enqueue = own_enqueue", OWN_ENQUEUE.format("abort();"))
        self.run_it("compare", "cpu_reference", "changed", "--plugin", library, *SMALL, "--M", "4",
                    "--cache", "hot", "--cell-seconds", "1", "--out", "out")
        (row,) = [row for row in self.records("compare") if not row["control"]]
        self.assertEqual(row["status"], "CRASH")
        self.assertIn("signal 6", row["reason"])


class IsRefused(Plugin):
    def test_a_file_that_is_no_plugin(self) -> None:
        self.compile("int nothing;", "libempty.so")
        (self.root / "text.so").write_text("no library")
        for sentence, file in {
            "there is no plugin './missing.so'": "./missing.so",
            "there is no plugin '.'": ".",
            "cannot load the plugin 'text.so': ": "text.so",
            "libempty.so is no plugin: it exports no attnbench_plugin": "libempty.so",
        }.items():
            with self.subTest(sentence):
                self.refused(sentence, "list", "--plugin", file)

    def test_a_plugin_that_does_not_say_what_it_is(self) -> None:
        for sentence, change in {
            "was built for version 7 of the plugin interface, not 1": "plugin.abi_version = 7",
            "holds no backend": "plugin.backend_count = 0",
            "libchanged.so: there is a backend 'cpu_fused' already": 'changed.id = "cpu_fused"',
            "there is a backend 'changed' already": "plugin.backend_count = 2",
            "backend '' needs an id": "changed.id = NULL",
            "backend 'Best!' needs an id": 'changed.id = "Best!"',
            "'changed' does not describe itself: summary is missing": 'changed.summary = ""',
            "'changed' does not describe itself: math is missing": "changed.math = NULL",
            "'changed' does not describe itself: op is missing": "changed.op = NULL",
            "has numerics 'about', not one of fp64, fp32,": 'changed.numerics = "about"',
            "names no memory space": "changed.memory = 3",
            "has no function enqueue": "changed.enqueue = NULL",
            "is smaller than this version's": "changed.size = 8",
            "is for 'rowsum', which is no operator here": 'changed.op = "rowsum"',
        }.items():
            with self.subTest(sentence):
                library = self.build(change, name="libchanged.so")
                self.refused(sentence, "verify", "colreduce", "--plugin", library)


if __name__ == "__main__":
    if not EXAMPLE or not COMPILER:
        print("skipped: $ATTN_EXAMPLE_PLUGIN is not set, or there is no C compiler")
        sys.exit(77)
    program.main()
