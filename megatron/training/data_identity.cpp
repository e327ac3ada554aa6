#include "megatron/training/data_identity.h"

#include <algorithm>
#include <bit>
#include <span>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

namespace megatron {
namespace {

// FNV-1a over 64-bit words.
class Checksum {
 public:
  void add(uint64_t word) { hash_ = (hash_ ^ word) * 0x100000001b3ULL; }
  template <typename T>
  void add_all(std::span<const T> words) {
    for (const T word : words) add(static_cast<uint64_t>(word));
  }
  void add_text(const std::string& text) {
    for (const char c : text) add(static_cast<unsigned char>(c));
  }
  std::string text() const { return fmt::format("{:016x}", hash_); }

 private:
  uint64_t hash_ = 0xcbf29ce484222325ULL;
};

// Reading every token would take as long as an epoch.
constexpr int64_t kSequencesRead = 64, kTokensRead = 64;
constexpr size_t kOrderEntries = 4096;

}  // namespace

DataIdentity identify_data(const LowLevelDataset& data) {
  const int64_t count = data.num_sequences();
  Checksum checksum;
  for (int64_t i = 0; i < count; ++i) checksum.add(uint64_t(data.sequence_length(i)));
  const int64_t step = std::max<int64_t>(count / kSequencesRead, 1);
  for (int64_t i = 0; i < count; i += step) {
    std::vector<int64_t> tokens;
    data.append_tokens(i, 0, std::min<int64_t>(data.sequence_length(i), kTokensRead), tokens);
    checksum.add_all(std::span<const int64_t>(tokens));
  }
  DataIdentity identity;
  identity.path = data.path();
  identity.documents = count;
  identity.content = checksum.text();
  return identity;
}

std::string order_checksum(const GPTDatasetIndex& index) {
  Checksum checksum;
  checksum.add_all(
      index.document_index.first(std::min(index.document_index.size(), kOrderEntries)));
  checksum.add_all(index.shuffle_index.first(std::min(index.shuffle_index.size(), kOrderEntries)));
  return checksum.text();
}

DataIdentity identify_training_data(const Options& options, const Datasets& datasets) {
  DataIdentity identity;
  const auto& documents = datasets.training_documents;
  const auto& parts = datasets.training_parts;
  if (documents.size() == 1) {
    identity = identify_data(*documents[0]);
    if (!parts.empty()) identity.order = order_checksum(parts[0]->index());
  } else {
    Checksum content, order;
    for (const double weight : datasets.training_weights)
      order.add(std::bit_cast<uint64_t>(weight));
    for (const auto& data : documents) {
      const DataIdentity one = identify_data(*data);
      identity.documents += one.documents;
      content.add_text(one.content);
    }
    for (const auto& part : parts) order.add_text(order_checksum(part->index()));
    identity.content = content.text();
    if (!parts.empty()) identity.order = order.text();
  }
  identity.path = datasets.training_path;
  const bool whole =
      !options.data.train_data_path.empty() || !options.data.per_split_data_args_path.empty();
  identity.split = whole ? "whole" : options.data.split;
  identity.seed = options.training.seed;
  identity.sequence_length = options.model.seq_length;
  if (options.training.train_samples) {
    identity.train_samples = *options.training.train_samples;
  } else {
    identity.train_iters = options.training.train_iters;
  }
  return identity;
}

nlohmann::json to_json(const DataIdentity& identity) {
  return {{"path", identity.path},
          {"documents", identity.documents},
          {"content", identity.content},
          {"order", identity.order},
          {"split", identity.split},
          {"seed", identity.seed},
          {"sequence_length", identity.sequence_length},
          {"train_iters", identity.train_iters},
          {"train_samples", identity.train_samples}};
}

DataIdentity data_identity_from_json(const nlohmann::json& json) {
  DataIdentity identity;
  identity.path = json.value("path", "");
  identity.documents = json.value("documents", int64_t{0});
  identity.content = json.value("content", "");
  identity.order = json.value("order", "");
  identity.split = json.value("split", "");
  identity.seed = json.value("seed", int64_t{0});
  identity.sequence_length = json.value("sequence_length", int64_t{0});
  identity.train_iters = json.value("train_iters", int64_t{0});
  identity.train_samples = json.value("train_samples", int64_t{0});
  return identity;
}

std::optional<std::string> explain_data_change(const DataIdentity& stored,
                                               const DataIdentity& current,
                                               int64_t consumed_samples) {
  if (stored.path.empty()) return std::nullopt;
  const auto known_difference = [](const std::string& a, const std::string& b) {
    return !a.empty() && !b.empty() && a != b;
  };
  const bool other_path = stored.path != current.path;
  const bool knows_content = !stored.content.empty() && !current.content.empty();
  const bool other_data = knows_content ? stored.content != current.content : other_path;
  const bool other_order = known_difference(stored.order, current.order);
  if (!other_path && !other_data && !other_order) return std::nullopt;

  std::vector<std::string> changes;
  const auto compare = [&](const char* name, const auto& before, const auto& now) {
    if (before != now) changes.push_back(fmt::format("{} was {}, is {}", name, before, now));
  };
  compare("data_path", stored.path, current.path);
  if (knows_content) compare("documents", stored.documents, current.documents);
  if (other_data && knows_content && stored.documents == current.documents && !other_path)
    changes.push_back("the files hold other tokens");
  // Other data always has another order.
  if (other_order && !other_data) {
    compare("split", stored.split, current.split);
    compare("seed", stored.seed, current.seed);
    compare("seq_length", stored.sequence_length, current.sequence_length);
    compare("train_iters", stored.train_iters, current.train_iters);
    compare("train_samples", stored.train_samples, current.train_samples);
  }
  const std::string what = other_data    ? "other training data"
                           : other_order ? "the training samples in another order"
                                         : "the same training data from another path";
  const std::string skipped =
      consumed_samples == 0 ? "training starts at its first sample"
      : other_data || other_order
          ? fmt::format(
                "samples 1 to {} of it are skipped: training goes on at sample {} "
                "(--finetune starts at sample 1)",
                consumed_samples, consumed_samples + 1)
          : fmt::format("training goes on at sample {}", consumed_samples + 1);
  return fmt::format("resuming with {}: {}; {}", what, fmt::join(changes, ", "), skipped);
}

}  // namespace megatron
