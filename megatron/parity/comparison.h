// The differences between this program's numbers and those of a case, and the bounds that they must
// hold.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "megatron/parallel/process_group.h"

namespace megatron {

enum class ParityKind {
  buffer,  // what the peer stores beside its weights: rotary tables, expert biases
  router_probs,
  router_map,  // the share of a router's entries that differ
  logits,
  per_token_loss,
  mean_loss,
  gradient,                     // largest difference of an element
  gradient_norm_of_difference,  // per tensor: |ours - theirs| / |theirs|, where |theirs| > 1e-6
  step_loss,
  moe_loss,  // reported losses of routers, by layer
  mtp_loss,  // reported losses of multi-token prediction, by depth
  step_grad_norm,
  weight_after3,
  loss_scale,  // what the loss scaler of fp16 did in a step
  // Of a folder of another library (source_parity.h). Counts of differences have a bound below 1.
  source_config,  // fields in which the two spellings of a configuration differ
  source_logits,
  source_loss,
  source_gradient,
  source_grad_norm,  // relative where it is above 1
  greedy_tokens,     // tokens that differ
  token_ids,         // texts whose ids or decoded text differ
  round_trip,        // tensors that differ in a bit
  decoded_values     // tensors of a GGUF file whose values differ in a bit
};

// Name and bound of a kind at tolerance 1.
struct ParityBound {
  const char* name;
  double bound;
  bool relative;
};
const ParityBound& parity_bound(ParityKind kind);

// Wider bounds that an option of the run calls for (case_bounds.h).
struct BoundException {
  std::string reason;  // a clause for the reader
  std::map<ParityKind, double> bounds;
  std::string tensor;  // the exception is limited to names that contain this
};

// The differences of one rank. Merging keeps the largest of all ranks, so each rank records the
// tensors that it has.
class Comparison {
 public:
  Comparison() = default;
  explicit Comparison(std::vector<BoundException> exceptions)
      : exceptions_(std::move(exceptions)) {}

  void record(ParityKind kind, const std::string& name, double difference);
  void merge(const ProcessGroup& world);  // collective

  bool holds(double tolerance) const;
  bool contains(ParityKind kind, const std::string& name) const;
  bool contains(ParityKind kind) const;  // of any name
  // The bound of a number at tolerance 1.
  double bound(ParityKind kind, const std::string& name) const;

  // Kinds and names of the differences that hold only by an exception.
  std::vector<std::pair<ParityKind, std::string>> beyond_standard_bounds() const;

  // Adds a line about a number that was not compared, or about an option that was left out.
  void note(const std::string& line) { notes_.insert(line); }

  // A table for a reader: a row per kind with counts, the largest difference, its tensor and bound;
  // then the reasons for wider bounds, the notes, and every number that exceeds its bound.
  std::string table(double tolerance) const;
  // Counts and maxima by kind, reasons for wider bounds, notes and failures.
  nlohmann::json to_json(double tolerance) const;

 private:
  struct Difference {
    ParityKind kind;
    std::string name;
    double value;
  };
  struct KindSummary {
    int64_t count = 0;
    double largest = 0;  // the difference that is largest relative to its bound
    double bound = 0;    // of that one
    std::string where;
  };
  std::vector<Difference> failures(double tolerance) const;
  std::map<ParityKind, KindSummary> summarize() const;

  std::vector<BoundException> exceptions_;
  std::map<std::pair<ParityKind, std::string>, double> differences_;
  std::set<std::string> notes_;
};

}  // namespace megatron
