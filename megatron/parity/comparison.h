// The differences between our numbers and a case's, with the bound that each kind must hold.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "megatron/parallel/process_group.h"

namespace megatron {

enum class ParityKind {
  buffer,  // tables that the peer keeps beside its weights
  logits,
  per_token_loss,
  mean_loss,
  gradient,                     // largest difference of an element
  gradient_norm_of_difference,  // per tensor: |ours - theirs| / |theirs|, where |theirs| > 1e-6
  step_loss,
  mtp_loss,  // reported losses of multi-token prediction, by depth
  step_grad_norm,
  weight_after3
};

// Name and bound of a kind at tolerance 1.
struct ParityBound {
  const char* name;
  double bound;
  bool relative;
};
const ParityBound& parity_bound(ParityKind kind);

// The differences of one rank. Merging takes the largest of all ranks, so that every rank may
// record what it holds.
class Comparison {
 public:
  void record(ParityKind kind, const std::string& name, double difference);
  void merge(const ProcessGroup& world);  // collective

  bool holds(double tolerance) const;
  bool contains(ParityKind kind, const std::string& name) const;
  bool contains(ParityKind kind) const;  // of any name

  // What a case usually holds and this one does not: said in the table, so that nobody takes what
  // was not compared for what agrees.
  void note_absent(const std::string& what) { absent_.insert(what); }

  // A table for a reader: a row per kind with counts, the largest difference, its tensor and the
  // bound; then what failed, tensor by tensor.
  std::string table(double tolerance) const;
  // Counts and maxima by kind, and the failures.
  nlohmann::json to_json(double tolerance) const;

 private:
  struct Difference {
    ParityKind kind;
    std::string name;
    double value;
  };
  std::vector<Difference> failures(double tolerance) const;

  std::map<std::pair<ParityKind, std::string>, double> differences_;
  std::set<std::string> absent_;
};

}  // namespace megatron
