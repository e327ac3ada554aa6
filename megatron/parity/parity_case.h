// A case of numbers from another system: <case>.json with the configuration and scalars,
// <case>.safetensors with tensors. The format is described in docs/parity.md.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "megatron/config/options/options.h"
#include "megatron/formats/safetensors_file.h"

namespace megatron {

// The closed form of tensors that a case does not store. `name` seeds it; element i is a function
// of i alone. Weights: offset + amplitude * x with x in [-1, 1), rounded to fp32, offset and
// amplitude by the kind of the name.
at::Tensor closed_form_weight(const std::string& name, at::IntArrayRef shape);
// Integers in [0, bound), int64.
at::Tensor closed_form_integers(const std::string& name, at::IntArrayRef shape, int64_t bound);

// Whether a tensor of a case is a table of cosines or sines that the peer keeps as a buffer (YaRN),
// before the first step or after the last: [positions, 1, 1, rotary dimension].
bool is_rotary_table(std::string_view tensor);

class ParityCase {
 public:
  // Reads the JSON file and the tensors beside it. Throws Error for a field or a tensor that is not
  // supported.
  static ParityCase open(const std::filesystem::path& json_file);

  // Writes the case's model, optimizer and batch into `options`, over what they hold; a parameters'
  // dtype that the user set stays.
  void configure(Options& options, bool keep_params_dtype) const;

  const std::string& name() const { return name_; }
  int64_t steps() const { return steps_; }
  int64_t num_microbatches() const { return num_microbatches_; }
  int64_t micro_batch_size() const { return micro_batch_size_; }
  double learning_rate() const { return json_["optimizer"]["lr"].get<double>(); }
  // Scalars of the results: step_loss, step_grad_norm, weight_after3.
  const nlohmann::json& json() const { return json_; }

  // Stored tensors, by their names in the file.
  bool contains(const std::string& tensor) const { return tensors_->contains(tensor); }
  at::Tensor tensor(const std::string& name) const { return tensors_->tensor(name); }
  // The same, where it has that shape. Throws Error where it has another.
  at::Tensor tensor(const std::string& name, at::IntArrayRef shape) const;
  std::vector<std::string> tensor_names() const { return tensors_->names(); }

  // Weights before step 1: stored, or by the closed form.
  at::Tensor weight(const std::string& name, at::IntArrayRef shape) const;

  // Whole inputs of a micro-batch, [b, s]; the mask [1 or b, 1, s, s] or undefined.
  struct Input {
    at::Tensor tokens, labels, loss_mask, position_ids, attention_mask;
  };
  Input input(int64_t step, int64_t microbatch) const;

 private:
  std::string name_;
  nlohmann::json json_;
  std::optional<SafetensorsFile> tensors_;
  int64_t steps_ = 0, num_microbatches_ = 0, micro_batch_size_ = 0, seq_length_ = 0,
          vocab_size_ = 0;
};

}  // namespace megatron
