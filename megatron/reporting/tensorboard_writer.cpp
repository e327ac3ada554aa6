// Encodes the fields of tensorflow.Event and tensorflow.Summary that scalars use.
#include "megatron/reporting/tensorboard_writer.h"

#include <array>
#include <bit>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <map>
#include <unistd.h>

#include <fmt/format.h>

#include "megatron/base/error.h"

namespace megatron {
namespace {

constexpr std::array<uint32_t, 256> make_crc32c_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t value = byte;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ ((value & 1) ? 0x82F63B78u : 0u);
    table[byte] = value;
  }
  return table;
}
constexpr auto kCrc32cTable = make_crc32c_table();

// Protobuf wire types.
enum class Wire : uint32_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

template <typename Integer>
void put_little_endian(std::string& out, Integer value) {
  for (size_t i = 0; i < sizeof(Integer); ++i) out += static_cast<char>(value >> (8 * i) & 0xFF);
}

void put_varint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>((value & 0x7F) | 0x80);
  out += static_cast<char>(value);
}

void put_key(std::string& out, uint32_t field, Wire type) {
  put_varint(out, field << 3 | static_cast<uint32_t>(type));
}

void put_bytes(std::string& out, uint32_t field, std::string_view value) {
  put_key(out, field, Wire::bytes);
  put_varint(out, value.size());
  out += value;
}

// Event: 1 wall_time (double), 2 step (int64).
std::string event_head(int64_t step) {
  const double now =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  std::string event;
  put_key(event, 1, Wire::fixed64);
  put_little_endian(event, std::bit_cast<uint64_t>(now));
  put_key(event, 2, Wire::varint);
  put_varint(event, static_cast<uint64_t>(step));
  return event;
}

// Event: 5 summary; Summary: 1 value (repeated); Value: 1 tag, 2 simple_value (float).
std::string scalar_event(std::string_view tag, int64_t step, double number) {
  std::string value;
  put_bytes(value, 1, tag);
  put_key(value, 2, Wire::fixed32);
  put_little_endian(value, std::bit_cast<uint32_t>(static_cast<float>(number)));
  std::string summary;
  put_bytes(summary, 1, value);
  std::string event = event_head(step);
  put_bytes(event, 5, summary);
  return event;
}

// TFRecord: length (uint64), its checksum, the bytes, their checksum.
std::string tf_record(std::string_view event) {
  std::string record;
  put_little_endian(record, static_cast<uint64_t>(event.size()));
  put_little_endian(record, masked_crc32c(record));
  record += event;
  put_little_endian(record, masked_crc32c(event));
  return record;
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  uint32_t value = ~0u;
  for (const char c : bytes) {
    value = (value >> 8) ^ kCrc32cTable[(value ^ static_cast<unsigned char>(c)) & 0xFF];
  }
  return ~value;
}

uint32_t masked_crc32c(std::string_view bytes) {
  return std::rotr(crc32c(bytes), 15) + 0xA282EAD8u;
}

TensorBoardWriter::TensorBoardWriter(const std::string& folder) {
  const std::string option = "--tensorboard-dir";
  make_log_folder(option, folder);
  std::array<char, 256> host{};
  if (gethostname(host.data(), host.size() - 1) != 0 || host[0] == '\0')
    host = {'h', 'o', 's', 't'};
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(
                           std::chrono::system_clock::now().time_since_epoch())
                           .count();
  const auto stem = (std::filesystem::path(folder) / fmt::format("events.out.tfevents.{:010}.{}.{}",
                                                                 seconds, host.data(), getpid()))
                        .string();
  int number = 0;
  while (std::filesystem::exists(fmt::format("{}.{}", stem, number))) ++number;
  file_ = std::make_unique<LogFile>(option, fmt::format("{}.{}", stem, number),
                                    LogFile::Mode::create_new);
  // Event: 3 file_version.
  std::string version = event_head(0);
  put_bytes(version, 3, "brain.Event:2");
  check(file_->append(tf_record(version)),
        "Expected space for the event file of {}, but got '{}' for '{}'; free some space or give "
        "another folder",
        option, file_->error(), file_->path());
}

bool TensorBoardWriter::step(const StepRecord& record, int64_t world_size) {
  std::vector<Scalar> scalars;
  const auto add = [&](const std::string& tag, double value) {
    scalars.push_back({tag, record.iteration, value});
  };
  const auto add_both = [&](const std::string& tag, double value) {
    add(tag, value);
    scalars.push_back({tag + " vs samples", record.consumed_samples, value});
  };
  add_both("learning-rate", record.learning_rate);
  if (record.batch_size > 0) add_both("batch-size", static_cast<double>(record.batch_size));
  add_both("lm loss", record.loss);
  add_both("grad-norm", record.grad_norm);
  if (record.loss_scale > 0) add_both("loss-scale", record.loss_scale);
  if (const auto& low = record.low_precision) {
    add(fmt::format("fp8 {} saturated", low->recipe), low->saturated);
    add(fmt::format("fp8 {} underflowed", low->recipe), low->underflowed);
  }
  add("iteration-time", record.step_ms / 1000);
  if (record.model_tflops > 0) {
    add("throughput", record.model_tflops / static_cast<double>(world_size));
  }
  if (record.memory_mib > 0) add("mem-max-allocated-bytes", record.memory_mib * 1024 * 1024);
  mtp_so_far_.resize(record.mtp.size());
  for (size_t i = 0; i < record.mtp.size(); ++i) {
    const MtpRecord& depth = record.mtp[i];
    MtpRecord& so_far = mtp_so_far_[i];
    const double tokens = so_far.tokens + depth.tokens;
    if (tokens > 0) {
      so_far.acceptance_rate =
          (so_far.acceptance_rate * so_far.tokens + depth.acceptance_rate * depth.tokens) / tokens;
    }
    so_far.tokens = tokens;
    add(fmt::format("mtp_{} loss", i + 1), depth.loss);
    add(fmt::format("mtp_{}_acceptance_rate", i + 1), depth.acceptance_rate);
    add(fmt::format("mtp_{}_cumulative_acceptance_rate", i + 1), so_far.acceptance_rate);
  }
  std::map<std::string, double> means;
  for (const MoeLayerRecord& layer : record.moe) {
    for (const auto& [name, value] : layer.losses) {
      means[name] += value / static_cast<double>(record.moe.size());
      add(fmt::format("moe/{}_{}", name, layer.layer), value);
    }
    add(fmt::format("moe/load_{}", layer.layer), layer.load);
    add(fmt::format("moe/dropped_{}", layer.layer), layer.dropped);
  }
  for (const auto& [name, value] : means) add(name, value);
  return write(scalars);
}

bool TensorBoardWriter::evaluation(const EvaluationRecord& record, int64_t consumed_samples) {
  const std::string tag = "lm loss " + record.split;
  // Clamped as in Megatron; NaN stays NaN.
  const double perplexity = std::exp(record.loss > 20 ? 20 : record.loss);
  std::vector<Scalar> scalars = {{tag, record.iteration, record.loss},
                                 {tag + " ppl", record.iteration, perplexity}};
  if (consumed_samples > 0) {
    scalars.push_back({tag + " vs samples", consumed_samples, record.loss});
    scalars.push_back({tag + " ppl vs samples", consumed_samples, perplexity});
  }
  return write(scalars);
}

bool TensorBoardWriter::write(const std::vector<Scalar>& scalars) {
  std::string records;
  for (const auto& scalar : scalars) {
    records += tf_record(scalar_event(scalar.tag, scalar.step, scalar.value));
  }
  return file_->append(records);
}

}  // namespace megatron
