// Opens exports with Python's safetensors and transformers, where they are installed.
#include <cstdlib>
#include <fstream>

#include <gtest/gtest.h>

#include "megatron/convert/checkpoint_conversion.h"

#include "tests/convert/hf_folder.h"

namespace megatron {
namespace {

bool python_has(const std::string& modules) {
  return std::system(("python3 -c 'import " + modules + "' > /dev/null 2>&1").c_str()) == 0;
}

int run_python(const TemporaryFolder& scratch, const std::string& script,
               const std::string& arguments) {
  std::ofstream(scratch.path() / "check.py") << script;
  return std::system(("python3 " + (scratch / "check.py") + " " + arguments).c_str());
}

void export_golden(const std::string& name, const TemporaryFolder& scratch) {
  SourceModel source = open_source_model(golden_hf(name));
  import_checkpoint(source, scratch.path() / "checkpoint");
  export_checkpoint(scratch.path() / "checkpoint", scratch.path() / "out");
}

TEST(Python, SafetensorsReadsTheExport) {
  if (!python_has("safetensors.numpy"))
    GTEST_SKIP() << "Python's safetensors (with numpy) is not installed";
  TemporaryFolder scratch;
  export_golden("gpt2", scratch);
  EXPECT_EQ(run_python(scratch,
                       "import sys\n"
                       "from safetensors.numpy import load_file\n"
                       "a, b = (load_file(p + '/model.safetensors') for p in sys.argv[1:3])\n"
                       "assert a.keys() == b.keys()\n"
                       "assert all((a[k] == b[k]).all() for k in a)\n",
                       golden_hf("gpt2").string() + " " + (scratch / "out")),
            0);
}

TEST(Python, TransformersRunsTheExport) {
  if (!python_has("transformers, torch"))
    GTEST_SKIP() << "Python's transformers (with torch) is not installed";
  for (const char* name : {"gpt2", "llama3_rope", "qwen2"}) {
    TemporaryFolder scratch;
    export_golden(name, scratch);
    EXPECT_EQ(run_python(scratch,
                         "import sys, torch\n"
                         "from safetensors.torch import load_file\n"
                         "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
                         "model = AutoModelForCausalLM.from_pretrained(sys.argv[1])\n"
                         "want = load_file(sys.argv[2] + '/expected.safetensors')\n"
                         "with torch.no_grad():\n"
                         "    logits = model(want['input_ids']).logits\n"
                         "assert (logits - want['logits']).abs().max() < 5e-5\n"
                         "AutoTokenizer.from_pretrained(sys.argv[1])\n",
                         (scratch / "out") + " " + golden_hf(name).string()),
              0)
        << name;
  }
}

}  // namespace
}  // namespace megatron
