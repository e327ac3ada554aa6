#include "megatron/convert/export_hf_weights.h"

#include "megatron/convert/export_weights.h"
#include "megatron/convert/hf_folder_writer.h"
#include "megatron/convert/source_model.h"

namespace megatron {
namespace {

SourceRecord record_of(const GPTModelChunks& chunks, const std::optional<SourceRecord>& source) {
  const GPTModelConfig& config = chunks.front()->config();
  return export_record(source, config, config.transformer.compute_dtype());
}

}  // namespace

void export_hf_weights(
    const GPTModelChunks& chunks,
    const std::function<void(const std::string& name, const at::Tensor& tensor)>& visit,
    const std::optional<SourceRecord>& source) {
  const SourceRecord record = record_of(chunks, source);
  const TensorMap map = map_of_record(record, chunks.front()->config());
  stream_tensors(
      map, values_of_state(sharded_state_dict(chunks)),
      [&](const std::string& name) { return record.dtype_of(name); },
      *chunks.front()->groups().world,
      [&](const std::string& name, const at::Tensor& tensor) {
        visit(name, tensor);
        // A repeated tied weight follows the embedding, the first tensor.
        if (name != map.tensors.front().name) return;
        for (const std::string& copy : record.tied_copies) visit(copy, tensor);
      });
}

void save_hf_pretrained(const GPTModelChunks& chunks, const std::filesystem::path& folder,
                        const std::optional<SourceRecord>& source) {
  const SourceRecord record = record_of(chunks, source);
  write_hf_folder(folder, record, map_of_record(record, chunks.front()->config()),
                  values_of_state(sharded_state_dict(chunks)), *chunks.front()->groups().world);
}

}  // namespace megatron
