// What must be the same for a resumed run to be bit-identical to one that did not stop.
#pragma once

#include <optional>
#include <string>

#include <nlohmann/json_fwd.hpp>

namespace megatron {

struct Fingerprint {
  int tensor_model_parallel_size = 1;
  int pipeline_model_parallel_size = 1;
  int context_parallel_size = 1;
  int data_parallel_size = 1;
  bool sequence_parallel = false;
  int world_size = 1;
  int threads_per_rank = 1;
  std::string backend;         // "gloo", "threads", "nccl"; "none" in a world of one
  std::string libtorch;        // version
  std::string cpu_capability;  // the instruction set that libtorch chose
  std::string device;          // "cpu", or the name of the GPU

  // With libtorch and cpu_capability filled from this process.
  static Fingerprint of_this_process();
};

nlohmann::json to_json(const Fingerprint& fingerprint);

// Throws Error naming a field that is missing or of the wrong type.
Fingerprint fingerprint_from_json(const nlohmann::json& json);

// "TP=2 x PP=2 x CP=1 x DP=1, 4 ranks (gloo), 1 thread each".
std::string describe_layout(const Fingerprint& fingerprint);

inline constexpr char kNotBitwise[] = "resuming, but not bit-identical to a run without the stop: ";

// One line, which begins so, that says in what a run differs from the one that wrote the
// checkpoint, so that its resume is not bit-identical; empty where they are the same.
std::optional<std::string> explain_difference(const Fingerprint& stored,
                                              const Fingerprint& current);

}  // namespace megatron
