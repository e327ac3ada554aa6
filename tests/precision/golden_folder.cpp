#include "tests/precision/golden_folder.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>

#include <ATen/ATen.h>

#include "megatron/formats/safetensors_file.h"

namespace megatron::test {

namespace {

std::filesystem::path default_folder() {
  return std::filesystem::path(TEST_DATA_DIR) / "precision";
}

}  // namespace

std::filesystem::path golden_precision_folder() {
  const char* folder = std::getenv("MEGATRON_GOLDEN_PRECISION");
  return folder && *folder ? folder : default_folder();
}

std::vector<GoldenFile> golden_files(const std::string& part, const std::string& extension) {
  const std::filesystem::path root = golden_precision_folder(), folder = root / part;
  if (!std::filesystem::is_directory(folder)) {
    const bool is_another = root != default_folder() && std::filesystem::is_directory(root);
    return {{folder, /*part_missing=*/is_another}};
  }
  std::vector<GoldenFile> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() == extension) files.push_back({entry.path()});
  }
  if (files.empty()) return {{folder}};
  std::ranges::sort(files, {}, &GoldenFile::path);
  return files;
}

std::string golden_name(const testing::TestParamInfo<GoldenFile>& info) {
  std::string name = info.param.path.stem().string();
  for (char& c : name) {
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  }
  return name;
}

testing::AssertionResult same_bits(const at::Tensor& got, const at::Tensor& want) {
  if (got.sizes() != want.sizes() || got.scalar_type() != want.scalar_type()) {
    return testing::AssertionFailure()
           << "got " << got.scalar_type() << " " << got.sizes() << ", expected "
           << want.scalar_type() << " " << want.sizes();
  }
  const auto bits = [](const at::Tensor& x) {
    if (x.scalar_type() != at::kFloat) return x.contiguous();
    return at::where(x.isnan(), at::full({}, -1, at::kInt), x.contiguous().view(at::kInt));
  };
  const at::Tensor differs = bits(got).ne(bits(want)).flatten();
  const int64_t count = differs.sum().item<int64_t>();
  if (count == 0) return testing::AssertionSuccess();
  const int64_t first = differs.nonzero()[0].item<int64_t>();
  return testing::AssertionFailure() << count << " of " << differs.numel() << " differ, first at "
                                     << first << ": got " << got.flatten()[first].item<double>()
                                     << ", expected " << want.flatten()[first].item<double>();
}

at::Tensor quantizer_input(const std::filesystem::path& file, const std::string& name) {
  return SafetensorsFile::open(file.parent_path() / "inputs.safetensors").tensor(name);
}

}  // namespace megatron::test
