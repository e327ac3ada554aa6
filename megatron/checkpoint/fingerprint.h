// The environment of a run. A resumed run is bit-identical to an uninterrupted one only if its
// fingerprint equals the stored one.
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
  int expert_model_parallel_size = 1;
  int expert_tensor_parallel_size = 0;  // 0: no experts
  bool sequence_parallel = false;
  int world_size = 1;
  int threads_per_rank = 1;
  std::string backend;         // "gloo", "threads" or "nccl"; "none" with one rank
  std::string libtorch;        // version
  std::string cpu_capability;  // instruction set that libtorch uses
  std::string device;          // "cpu" or "cuda"

  // Sets libtorch and cpu_capability of this process.
  static Fingerprint of_this_process();
};

nlohmann::json to_json(const Fingerprint& fingerprint);

// Throws Error if a field is missing or has the wrong type.
Fingerprint fingerprint_from_json(const nlohmann::json& json);

// "TP=2 x PP=2 x CP=1 x DP=1, 4 ranks (gloo), 1 thread each".
std::string describe_layout(const Fingerprint& fingerprint);

inline constexpr char kNotBitwise[] = "resumed run is not bit-identical to an uninterrupted one: ";

// One line, starting with kNotBitwise, that lists the differences from the run that wrote the
// checkpoint; empty if there are none.
std::optional<std::string> explain_difference(const Fingerprint& stored,
                                              const Fingerprint& current);

}  // namespace megatron
