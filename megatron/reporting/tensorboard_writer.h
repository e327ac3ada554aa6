// TensorBoard's event files: scalars only, in the TFRecord framing and protobuf wire format.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "megatron/reporting/log_file.h"
#include "megatron/reporting/run_records.h"

namespace megatron {

// CRC-32C (Castagnoli, reflected, polynomial 0x1EDC6F41), and TFRecord's rotated and shifted form
// of it.
uint32_t crc32c(std::string_view bytes);
uint32_t masked_crc32c(std::string_view bytes);

class TensorBoardWriter {
 public:
  // Creates a new file events.out.tfevents.<seconds>.<host>.<process>.<n> in `folder`; TensorBoard
  // joins it to those already there. Throws Error where that fails.
  explicit TensorBoardWriter(const std::string& folder);

  // Megatron's tags and units, against the iteration and ("... vs samples") against the samples
  // consumed: "lm loss", "learning-rate", "grad-norm", "batch-size"; against the iteration alone:
  // "iteration-time" (seconds), "throughput" (TFLOP/s a rank), "mem-max-allocated-bytes" (of the
  // largest rank), and for each depth of multi-token prediction "mtp_1 loss" with the percentages
  // "mtp_1_acceptance_rate" and, since this writer was made, "mtp_1_cumulative_acceptance_rate".
  bool step(const StepRecord& record, int64_t world_size);
  // "lm loss validation" and its perplexity "lm loss validation ppl" (or "test" by the split), also
  // "vs samples" where `consumed_samples` is above 0.
  bool evaluation(const EvaluationRecord& record, int64_t consumed_samples);

  const LogFile& file() const { return *file_; }

 private:
  struct Scalar {
    std::string tag;
    int64_t step;
    double value;  // stored in fp32
  };
  bool write(const std::vector<Scalar>& scalars);

  std::unique_ptr<LogFile> file_;
  std::vector<MtpRecord> mtp_so_far_;  // tokens and acceptance rate of all steps
};

}  // namespace megatron
