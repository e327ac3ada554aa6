// A parity case: numbers of another system, in <case>.json (configuration and scalars) and
// <case>.safetensors (tensors). docs/parity.md describes the format.
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

// The closed form of weights that a case does not store: element i is offset + amplitude * x with x
// in [-1, 1) a function of `name` and i, rounded to fp32. Offset and amplitude depend on the kind
// of parameter that the name tells.
at::Tensor closed_form_weight(const std::string& name, at::IntArrayRef shape);
// The closed form of integers: int64 in [0, bound).
at::Tensor closed_form_integers(const std::string& name, at::IntArrayRef shape, int64_t bound);

// Whether the name is that of a rotary table that the peer stores as a buffer (YaRN), before the
// first step or after the last: [positions, 1, 1, rotary dimension].
bool is_rotary_table(std::string_view tensor);
// Whether it is state of a router, before the first step or after the last: its expert bias, or a
// counter that each step starts from 0.
bool is_router_state(std::string_view tensor);

class ParityCase {
 public:
  // Reads the JSON file and the safetensors file beside it. Throws Error for fields and tensors
  // that are not supported.
  static ParityCase open(const std::filesystem::path& json_file);

  // Sets model, optimizer and batch of `options` to the case's. With `keep_params_dtype` the dtype
  // of the parameters stays. Returns a line for each option of the case that is left out
  // (clear_options_that_the_peer_ignores).
  std::vector<std::string> configure(Options& options, bool keep_params_dtype) const;

  const std::string& name() const { return name_; }
  int64_t steps() const { return steps_; }
  int64_t num_microbatches() const { return num_microbatches_; }
  // The dtype of the parameters that the numbers were computed with.
  at::ScalarType params_dtype() const;
  int64_t micro_batch_size() const { return micro_batch_size_; }
  double learning_rate() const { return json_["optimizer"]["lr"].get<double>(); }
  // The JSON file, with the scalar results: step_loss, step_grad_norm, weight_after3.
  const nlohmann::json& json() const { return json_; }

  // Stored tensors by name.
  bool contains(const std::string& tensor) const { return tensors_->contains(tensor); }
  at::Tensor tensor(const std::string& name) const { return tensors_->tensor(name); }
  // Throws Error where the stored shape differs.
  at::Tensor tensor(const std::string& name, at::IntArrayRef shape) const;
  std::vector<std::string> tensor_names() const { return tensors_->names(); }

  // The name that the case has for a parameter of this program: a norm's parameters are named after
  // the linear layer that consumes it, as by the peer's fused layers, or after the norm, as by its
  // local layers (standalone_norm_name).
  std::string name_of(const std::string& parameter) const;

  // A weight before step 1, by the case's name: stored, or from the closed form.
  at::Tensor weight(const std::string& name, at::IntArrayRef shape) const;

  // Inputs of a micro-batch, [b, s] with all rows; attention_mask [1 or b, 1, s, s] or undefined.
  struct Input {
    at::Tensor tokens, labels, loss_mask, position_ids, attention_mask;
  };
  Input input(int64_t step, int64_t microbatch) const;

 private:
  std::string name_;
  nlohmann::json json_;
  std::optional<SafetensorsFile> tensors_;
  bool has_fused_norm_names_ = false;
  int64_t steps_ = 0, num_microbatches_ = 0, micro_batch_size_ = 0, seq_length_ = 0,
          vocab_size_ = 0;
};

}  // namespace megatron
