// Writes TensorBoard event files with scalars (TFRecord framing, protobuf wire format).
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

// CRC-32C (Castagnoli, reflected, polynomial 0x1EDC6F41), and its masked form in TFRecord.
uint32_t crc32c(std::string_view bytes);
uint32_t masked_crc32c(std::string_view bytes);

class TensorBoardWriter {
 public:
  // Creates a file events.out.tfevents.<seconds>.<host>.<process>.<n> in `folder`. TensorBoard
  // shows all files of a folder as one run. Throws Error if that fails.
  explicit TensorBoardWriter(const std::string& folder);

  // Tags and units are Megatron's. By iteration and, as "... vs samples", by consumed samples:
  // "lm loss", "learning-rate", "grad-norm", "batch-size". By iteration only: "iteration-time"
  // (seconds), "throughput" (TFLOP/s per rank), "mem-max-allocated-bytes" (largest rank), and per
  // MTP depth "mtp_1 loss" and the percentages "mtp_1_acceptance_rate" and
  // "mtp_1_cumulative_acceptance_rate" (since this writer was created).
  bool step(const StepRecord& record, int64_t world_size);
  // "lm loss validation" (or "test") and its perplexity "lm loss validation ppl", also as
  // "... vs samples" if `consumed_samples` is above 0.
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
  std::vector<MtpRecord> mtp_so_far_;  // tokens and acceptance rate over all steps
};

}  // namespace megatron
