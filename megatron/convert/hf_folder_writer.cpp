#include "megatron/convert/hf_folder_writer.h"

#include <random>

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "megatron/base/error.h"
#include "megatron/convert/padding_groups.h"
#include "megatron/convert/rank_agreement.h"
#include "megatron/convert/tensor_source.h"
#include "megatron/formats/file_io.h"
#include "megatron/formats/safetensors_layout.h"
#include "megatron/formats/shared_file.h"

namespace megatron {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// A tensor of the output. `mapped` holds its values; a copy of a tied weight has those of another.
struct OutputTensor {
  PlannedTensor plan;
  const MappedTensor* mapped;
};

struct PlannedFile {
  std::string name;
  std::vector<OutputTensor> tensors;
  SafetensorsLayout layout;
};

std::string dtype_word(at::ScalarType dtype) {
  switch (dtype) {
    case at::kBFloat16:
      return "bfloat16";
    case at::kHalf:
      return "float16";
    case at::kDouble:
      return "float64";
    default:
      return "float32";
  }
}

std::vector<OutputTensor> output_tensors(const SourceRecord& record, const TensorMap& map) {
  std::vector<OutputTensor> tensors;
  for (const MappedTensor& tensor : map.tensors)
    tensors.push_back({{tensor.name, record.dtype_of(tensor.name), tensor.shape}, &tensor});
  for (const std::string& name : record.tied_copies) {
    const MappedTensor& embedding = map.tensors.front();
    tensors.push_back({{name, record.dtype_of(embedding.name), embedding.shape}, &embedding});
  }
  return tensors;
}

// The tensors in order, in files of at most `most` bytes.
std::vector<PlannedFile> plan_files(const std::vector<OutputTensor>& tensors, int64_t most) {
  std::vector<PlannedFile> files(1);
  int64_t bytes = 0;
  for (const OutputTensor& tensor : tensors) {
    if (!files.back().tensors.empty() && bytes + tensor.plan.bytes() > most) {
      files.emplace_back();
      bytes = 0;
    }
    files.back().tensors.push_back(tensor);
    bytes += tensor.plan.bytes();
  }
  for (size_t i = 0; i < files.size(); ++i) {
    files[i].name = files.size() == 1
                        ? "model.safetensors"
                        : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, files.size());
    std::vector<PlannedTensor> plans;
    for (const OutputTensor& tensor : files[i].tensors) plans.push_back(tensor.plan);
    files[i].layout = plan_safetensors(plans, {{"format", "pt"}});
  }
  return files;
}

json index_of(const std::vector<PlannedFile>& files) {
  json weights = json::object();
  int64_t bytes = 0;
  for (const PlannedFile& file : files) {
    for (const OutputTensor& tensor : file.tensors) {
      weights[tensor.plan.name] = file.name;
      bytes += tensor.plan.bytes();
    }
  }
  return {{"metadata", {{"total_size", bytes}}}, {"weight_map", weights}};
}

fs::path temporary_name(const fs::path& folder) {
  std::random_device random;
  fs::path name = folder.lexically_normal();
  if (!name.has_filename()) name = name.parent_path();
  name += fmt::format(".tmp-{:08x}", random());
  return name;
}

// The values of one tensor, as far as this rank holds them.
void write_tensor(SharedFile& file, int64_t begin, const OutputTensor& output, const TensorMap& map,
                  const ParameterValues& values) {
  const auto held = held_of_tensor(map, *output.mapped, values);
  const std::vector<int64_t>& shape = output.plan.shape;
  int64_t elements = 0;
  for (const HeldValues& piece : held) elements += piece.values.numel();
  const bool is_whole = elements == shape_volume(shape);
  if (is_whole && held.size() > 1) {
    at::Tensor whole = at::empty(shape, output.plan.dtype);
    const std::vector<int64_t> origin(shape.size(), 0);
    for (const HeldValues& piece : held) narrow_to(whole, origin, piece.region).copy_(piece.values);
    return file.write_region(begin, shape, whole_rectangle(shape), whole);
  }
  for (const HeldValues& piece : held)
    file.write_region(begin, shape, piece.region, piece.values.to(output.plan.dtype));
}

class HfFolderWriter {
 public:
  HfFolderWriter(const fs::path& folder, const SourceRecord& record, const TensorMap& map,
                 const ParameterValues& values, const ProcessGroup& world,
                 const HfFolderOptions& options)
      : folder_(folder),
        record_(record),
        map_(map),
        values_(values),
        world_(world),
        replace_(options.replace) {
    files_ = plan_files(output_tensors(record, map), options.max_shard_bytes);
  }

  void write() {
    temporary_ = run([&] { return world_.is_first() ? start() : std::string(); });
    run([&] {
      write_values();
      return std::string();
    });
    run([&] {
      if (world_.is_first()) finish();
      return std::string();
    });
  }

 private:
  // Runs a step on every rank; after a failure nothing is left behind.
  template <typename Step>
  std::string run(const Step& step) {
    return agree_on_step(world_, fmt::format("write {}", folder_.string()), step, [&] {
      if (!world_.is_first() || temporary_.empty()) return;
      std::error_code ignored;
      fs::remove_all(temporary_, ignored);
    });
  }

  std::string start() {
    const bool taken = fs::exists(folder_) && !(fs::is_directory(folder_) && fs::is_empty(folder_));
    check(!taken || replace_, "Expected a new or empty folder, but {} exists; give another",
          folder_.string());
    temporary_ = temporary_name(folder_).string();
    fs::create_directories(temporary_);
    for (const PlannedFile& file : files_) {
      SharedFile::create(fs::path(temporary_) / file.name, file.layout.file_bytes);
      SharedFile(fs::path(temporary_) / file.name)
          .write(0, file.layout.header.data(), file.layout.header.size());
    }
    return temporary_;
  }

  void write_values() {
    const at::NoGradGuard no_grad;
    for (const PlannedFile& file : files_) {
      SharedFile out(fs::path(temporary_) / file.name);
      for (size_t i = 0; i < file.tensors.size(); ++i)
        write_tensor(out, file.layout.begin[i], file.tensors[i], map_, values_);
      out.sync();
    }
  }

  void finish() {
    const fs::path temporary = temporary_;
    if (files_.size() > 1) {
      write_file_durably(temporary / "model.safetensors.index.json",
                         index_of(files_).dump(2) + "\n");
    }
    write_file_durably(temporary / "config.json", record_.config.dump(2) + "\n");
    for (const auto& [name, text] : record_.files) write_file_durably(temporary / name, text);
    sync_directory(temporary);
    std::error_code ignored;
    const fs::path replaced = temporary_name(folder_);
    if (replace_ && fs::exists(folder_)) rename_path(folder_, replaced);
    fs::remove(folder_, ignored);  // an empty one
    rename_path(temporary, folder_);
    fs::remove_all(replaced, ignored);
    const fs::path parent = fs::absolute(folder_).parent_path();
    sync_directory(parent);
  }

  const fs::path folder_;
  const SourceRecord& record_;
  const TensorMap& map_;
  const ParameterValues& values_;
  const ProcessGroup& world_;
  const bool replace_;
  std::vector<PlannedFile> files_;
  std::string temporary_;
};

}  // namespace

SourceRecord export_record(const std::optional<SourceRecord>& source, const GPTModelConfig& model,
                           at::ScalarType dtype) {
  SourceRecord record;
  if (!source) {
    const HfFamily& family = family_of_model(model);
    record.model_type = family.model_type;
    record.prefix = family.prefix;
    record.dtype = dtype;
    record.config = write_hf_config(family, model);
    record.config["torch_dtype"] = dtype_word(dtype);
    return record;
  }
  record = *source;
  const HfFamily& family = hf_family(record.model_type);
  const GPTModelConfig before = read_hf_config(family, record.config, "the stored config.json");
  record.config = updated_hf_config(family, record.config, without_padding_groups(model, before));
  return record;
}

void write_hf_folder(const fs::path& folder, const SourceRecord& record, const TensorMap& map,
                     const ParameterValues& values, const ProcessGroup& world,
                     const HfFolderOptions& options) {
  HfFolderWriter(folder, record, map, values, world, options).write();
}

}  // namespace megatron
