#include "megatron/checkpoint/checkpoint_summary.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <set>
#include <string_view>
#include <vector>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "megatron/base/dtype.h"
#include "megatron/base/error.h"
#include "megatron/base/human_bytes.h"
#include "megatron/checkpoint/checkpoint_directory.h"
#include "megatron/checkpoint/checkpoint_reader.h"
#include "megatron/checkpoint/fingerprint.h"

namespace megatron {
namespace {

using nlohmann::json;

constexpr std::string_view kOptimizerPrefix = "optimizer.";

// Options shown as the description of the model, in this order.
constexpr std::array kModelFields = {"num_layers",
                                     "hidden_size",
                                     "ffn_hidden_size",
                                     "num_attention_heads",
                                     "num_query_groups",
                                     "kv_channels",
                                     "vocab_size",
                                     "seq_length",
                                     "max_position_embeddings",
                                     "position_embedding_type",
                                     "normalization",
                                     "params_dtype",
                                     "bf16"};

bool is_digit(char c) {
  return std::isdigit(static_cast<unsigned char>(c)) != 0;
}

// Removes the leading digits of `text` and returns them without leading zeros.
std::string_view take_number(std::string_view& text) {
  const auto end = std::find_if_not(text.begin(), text.end(), is_digit);
  const auto digits = text.substr(0, static_cast<size_t>(end - text.begin()));
  text.remove_prefix(digits.size());
  return digits.substr(std::min(digits.find_first_not_of('0'), digits.size()));
}

// Natural order: layer 2 before layer 10.
bool natural_less(std::string_view a, std::string_view b) {
  while (!a.empty() && !b.empty()) {
    if (is_digit(a[0]) && is_digit(b[0])) {
      const auto x = take_number(a), y = take_number(b);
      if (x.size() != y.size()) return x.size() < y.size();
      if (x != y) return x < y;
    } else if (a[0] != b[0]) {
      return a[0] < b[0];
    } else {
      a.remove_prefix(1);
      b.remove_prefix(1);
    }
  }
  return a.size() < b.size();
}

json tensor_row(const std::string& key, at::ScalarType dtype, const std::vector<int64_t>& shape,
                size_t chunks) {
  const int64_t elements = shape_volume(shape);
  return {
      {"key", key},           {"dtype", dtype_name(dtype)},
      {"shape", shape},       {"chunks", chunks},
      {"elements", elements}, {"bytes", elements * static_cast<int64_t>(c10::elementSize(dtype))}};
}

// The number N of "...layers.N....", or -1.
int64_t layer_of(std::string_view key) {
  constexpr std::string_view mark = "decoder.layers.";
  const auto found = key.find(mark);
  if (found == std::string_view::npos) return -1;
  int64_t layer = -1;
  const auto digits = key.substr(found + mark.size());
  std::from_chars(digits.data(), digits.data() + digits.size(), layer);
  return layer;
}

void add_totals(json& summary, size_t files) {
  auto& tensors = summary["tensors"];
  std::sort(tensors.begin(), tensors.end(), [](const json& a, const json& b) {
    return natural_less(a["key"].get_ref<const std::string&>(),
                        b["key"].get_ref<const std::string&>());
  });
  int64_t elements = 0, bytes = 0, parameters = 0, layers = 0;
  json model = json::object();
  for (const auto& row : tensors) {
    const auto& key = row["key"].get_ref<const std::string&>();
    elements += row["elements"].get<int64_t>();
    bytes += row["bytes"].get<int64_t>();
    if (key.starts_with(kOptimizerPrefix)) continue;
    parameters += row["elements"].get<int64_t>();
    layers = std::max(layers, layer_of(key) + 1);
    if (key.ends_with("embedding.word_embeddings.weight")) model["embedding"] = row["shape"];
  }
  if (layers > 0) model["num_layers"] = layers;
  summary["model"] = std::move(model);
  summary["totals"] = {{"tensors", tensors.size()},
                       {"elements", elements},
                       {"bytes", bytes},
                       {"parameters", parameters},
                       {"other_elements", elements - parameters},
                       {"files", files}};
}

json summarize_safetensors(const std::filesystem::path& path) {
  const auto file = SafetensorsFile::open(path);
  json summary = {{"kind", "safetensors"},
                  {"path", path.string()},
                  {"metadata", file.metadata()},
                  {"tensors", json::array()}};
  for (const auto& name : file.names()) {
    const auto& entry = file.entry(name);
    summary["tensors"].push_back(tensor_row(name, entry.dtype, entry.shape, 1));
  }
  add_totals(summary, 1);
  return summary;
}

// 1234567 -> "1,234,567".
std::string grouped(int64_t number) {
  std::string text = std::to_string(number);
  for (int64_t at = static_cast<int64_t>(text.size()) - 3; at > 0; at -= 3) {
    text.insert(static_cast<size_t>(at), ",");
  }
  return text;
}

std::string plain(const json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

void append_fact(std::string& text, std::string_view name, std::string_view value) {
  text += fmt::format("{:<18} {}\n", name, value);
}

void append_checkpoint_facts(std::string& text, const json& summary) {
  append_fact(text, "iteration", summary["iteration"].dump());
  const auto& common = summary["common"];
  if (summary.contains("layout")) append_fact(text, "written by", plain(summary["layout"]));
  if (!common.is_object()) return;
  for (const auto& [name, value] : common.items()) {
    if (value.is_primitive() && !value.is_null() && name != "iteration")
      append_fact(text, name, plain(value));
  }
  const json extra = common.value("extra_checkpoint_metadata", json());
  if (extra.is_object()) append_fact(text, "extra metadata", extra.dump());
  const auto options = common.find("options");
  if (options == common.end() || !options->is_object()) return;
  std::vector<std::string> facts;
  for (const char* field : kModelFields) {
    if (options->contains(field) && !(*options)[field].is_null()) {
      facts.push_back(fmt::format("{} {}", field, plain((*options)[field])));
    }
  }
  if (!facts.empty()) append_fact(text, "model", fmt::format("{}", fmt::join(facts, ", ")));
}

void append_table(std::string& text, const json& tensors) {
  struct Row {
    std::string key, dtype, shape, chunks;
  };
  std::vector<Row> rows = {{"tensor", "dtype", "shape", "chunks"}};
  for (const auto& tensor : tensors) {
    rows.push_back({tensor["key"], tensor["dtype"],
                    format_shape(tensor["shape"].get<std::vector<int64_t>>()),
                    tensor["chunks"].dump()});
  }
  size_t key = 0, dtype = 0, shape = 0;
  for (const auto& row : rows) {
    key = std::max(key, row.key.size());
    dtype = std::max(dtype, row.dtype.size());
    shape = std::max(shape, row.shape.size());
  }
  for (const auto& row : rows) {
    text += fmt::format("{:<{}}  {:<{}}  {:<{}}  {:>6}\n", row.key, key, row.dtype, dtype,
                        row.shape, shape, row.chunks);
  }
}

}  // namespace

json summarize_checkpoint(const std::filesystem::path& path, std::optional<int64_t> iteration) {
  if (std::filesystem::is_regular_file(path)) return summarize_safetensors(path);
  const auto reader = CheckpointReader::open(path, iteration);
  json summary = {{"kind", "checkpoint"},
                  {"path", reader.directory().string()},
                  {"iteration", reader.iteration()},
                  {"common", reader.common()},
                  {"stored_iterations", stored_iterations(reader.directory().parent_path())},
                  {"tensors", json::array()}};
  if (reader.common().is_object() && reader.common().contains("fingerprint")) {
    summary["layout"] = describe_layout(fingerprint_from_json(reader.common().at("fingerprint")));
  }
  for (const auto& [key, tensor] : reader.index().tensors) {
    summary["tensors"].push_back(tensor_row(key, tensor.dtype, tensor.shape, tensor.chunks.size()));
  }
  summary["damage"] = json::array();
  for (const auto& [name, shard] : reader.index().files) {
    std::error_code error;
    const auto bytes = std::filesystem::file_size(reader.directory() / name, error);
    if (error || static_cast<int64_t>(bytes) != shard.bytes) {
      summary["damage"].push_back(fmt::format(
          "Expected {} bytes in {}, but {}", shard.bytes, (reader.directory() / name).string(),
          error ? "could not read it: " + error.message()
                : fmt::format("got {}: it is truncated or damaged", bytes)));
    }
  }
  add_totals(summary, reader.index().files.size());
  return summary;
}

std::string format_checkpoint_summary(const json& summary) {
  std::string text;
  append_fact(text, plain(summary["kind"]), plain(summary["path"]));
  if (summary["kind"] == "checkpoint") {
    append_checkpoint_facts(text, summary);
    const auto& stored = summary["stored_iterations"];
    if (stored.size() > 1) append_fact(text, "stored iterations", stored.dump());
  } else {
    for (const auto& [name, value] : summary["metadata"].items()) {
      append_fact(text, name, plain(value));
    }
  }
  if (summary["model"].contains("num_layers")) {
    append_fact(text, "layers", summary["model"]["num_layers"].dump());
  }
  text += '\n';
  append_table(text, summary["tensors"]);
  const auto& totals = summary["totals"];
  text += fmt::format(
      "\n{} tensors in {} file{}, {}: {} model parameters, {} elements of optimizer state\n",
      totals["tensors"].dump(), totals["files"].dump(), totals["files"] == 1 ? "" : "s",
      human_bytes(totals["bytes"]), grouped(totals["parameters"]),
      grouped(totals["other_elements"]));
  return text;
}

}  // namespace megatron
