// Event files, read back with a reader of this test; checksums against published vectors.
#include "megatron/reporting/tensorboard_writer.h"

#include <cmath>
#include <cstring>
#include <map>
#include <set>

#include "megatron/base/error.h"
#include "megatron/reporting/event_file_cut.h"

#include "tests/reporting/log_test_tools.h"

namespace megatron {
namespace {

struct ReadEvent {
  double wall_time = 0;
  int64_t step = 0;
  std::string file_version, tag;
  float value = NAN;
};

// A reader of the protobuf wire format.
class WireReader {
 public:
  explicit WireReader(std::string_view bytes) : bytes_(bytes) {}
  bool done() const { return at_ >= bytes_.size(); }
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      const auto byte = static_cast<unsigned char>(bytes_.at(at_++));
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
  }
  template <typename Number>
  Number fixed() {
    Number value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);  // x86 and ARM are little-endian
    return value;
  }
  std::string_view take(size_t count) {
    if (at_ + count > bytes_.size()) throw std::runtime_error("record ends early");
    at_ += count;
    return bytes_.substr(at_ - count, count);
  }

 private:
  std::string_view bytes_;
  size_t at_ = 0;
};

ReadEvent parse_event(std::string_view bytes) {
  ReadEvent event;
  for (WireReader reader(bytes); !reader.done();) {
    switch (const auto key = reader.varint(); key) {
      case 1 << 3 | 1:
        event.wall_time = reader.fixed<double>();
        break;
      case 2 << 3 | 0:
        event.step = static_cast<int64_t>(reader.varint());
        break;
      case 3 << 3 | 2:
        event.file_version = reader.take(reader.varint());
        break;
      case 5 << 3 | 2: {
        WireReader summary(reader.take(reader.varint()));
        EXPECT_EQ(summary.varint(), 1u << 3 | 2u);
        WireReader value(summary.take(summary.varint()));
        EXPECT_EQ(value.varint(), 1u << 3 | 2u);
        event.tag = value.take(value.varint());
        EXPECT_EQ(value.varint(), 2u << 3 | 5u);
        event.value = value.fixed<float>();
        EXPECT_TRUE(value.done() && summary.done());
        break;
      }
      default:
        ADD_FAILURE() << "key " << key;
        return event;
    }
  }
  return event;
}

std::vector<ReadEvent> read_events(const std::string& path) {
  std::vector<ReadEvent> events;
  const std::string bytes = text_of(path);
  WireReader reader(bytes);
  while (!reader.done()) {
    const auto length_bytes = reader.take(8);
    EXPECT_EQ(reader.fixed<uint32_t>(), masked_crc32c(length_bytes));
    const auto length = WireReader(length_bytes).fixed<uint64_t>();
    const auto data = reader.take(length);
    EXPECT_EQ(reader.fixed<uint32_t>(), masked_crc32c(data));
    events.push_back(parse_event(data));
  }
  return events;
}

TEST(Crc32c, MatchesPublishedVectors) {
  // RFC 3720, B.4, and the standard check value.
  EXPECT_EQ(crc32c("123456789"), 0xE3069283u);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAu);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62A8AB43u);
  std::string rising, falling;
  for (int i = 0; i < 32; ++i) {
    rising += static_cast<char>(i);
    falling += static_cast<char>(31 - i);
  }
  EXPECT_EQ(crc32c(rising), 0x46DD794Eu);
  EXPECT_EQ(crc32c(falling), 0x113FDB5Cu);
  EXPECT_EQ(crc32c(""), 0u);
  // ((c >> 15) | (c << 17)) + 0xa282ead8 of 0xE3069283.
  EXPECT_EQ(masked_crc32c("123456789"), 0xC78AB0E5u);
}

TEST(TensorBoardWriter, WritesTagsAndValuesOfMegatron) {
  TemporaryFolder folder;
  TensorBoardWriter writer((folder / "a/b"));
  const StepRecord record = example_step(300);
  ASSERT_TRUE(writer.step(record, 4));
  ASSERT_TRUE(writer.evaluation({300, "validation", 2.5, 1.1}, 4800));
  ASSERT_TRUE(writer.evaluation({300, "test", 30.0, std::nullopt}, 0));

  EXPECT_EQ(std::filesystem::path(writer.file().path())
                .filename()
                .string()
                .rfind("events.out.tfevents.", 0),
            0u);
  const auto events = read_events(writer.file().path());
  EXPECT_EQ(events.at(0).file_version, "brain.Event:2");
  EXPECT_GT(events.at(0).wall_time, 1.7e9);
  std::map<std::string, std::pair<int64_t, float>> scalars;
  for (size_t i = 1; i < events.size(); ++i)
    scalars[events[i].tag] = {events[i].step, events[i].value};
  const auto expect = [&](const std::string& tag, int64_t step, double value) {
    ASSERT_EQ(scalars.count(tag), 1u) << tag;
    EXPECT_EQ(scalars[tag].first, step) << tag;
    EXPECT_EQ(scalars[tag].second, static_cast<float>(value)) << tag;
    scalars.erase(tag);
  };
  expect("lm loss", 300, record.loss);
  expect("lm loss vs samples", 4800, record.loss);
  expect("learning-rate", 300, record.learning_rate);
  expect("learning-rate vs samples", 4800, record.learning_rate);
  expect("grad-norm", 300, record.grad_norm);
  expect("grad-norm vs samples", 4800, record.grad_norm);
  expect("batch-size", 300, 16);
  expect("batch-size vs samples", 4800, 16);
  expect("iteration-time", 300, record.step_ms / 1000);
  expect("throughput", 300, record.model_tflops / 4);
  expect("mem-max-allocated-bytes", 300, 812.0 * 1024 * 1024);
  expect("lm loss validation", 300, 2.5);
  expect("lm loss validation vs samples", 4800, 2.5);
  expect("lm loss validation ppl", 300, std::exp(2.5));
  expect("lm loss validation ppl vs samples", 4800, std::exp(2.5));
  expect("lm loss test", 300, 30);
  expect("lm loss test ppl", 300, std::exp(20.0));
  EXPECT_TRUE(scalars.empty()) << scalars.begin()->first;
}

// The cumulative rate of two steps is weighted by tokens.
TEST(TensorBoardWriter, WritesMtpByDepth) {
  TemporaryFolder folder;
  TensorBoardWriter writer((folder / ""));
  StepRecord record = example_step(1);
  record.mtp = {{.loss = 3, .tokens = 10, .acceptance_rate = 50}, {.loss = 4}};
  ASSERT_TRUE(writer.step(record, 1));
  record.mtp[0] = {.loss = 2.5, .tokens = 30, .acceptance_rate = 10};
  ASSERT_TRUE(writer.step(record, 1));
  std::map<std::string, float> last;
  for (const ReadEvent& event : read_events(writer.file().path())) last[event.tag] = event.value;
  EXPECT_EQ(last.at("mtp_1 loss"), 2.5f);
  EXPECT_EQ(last.at("mtp_1_acceptance_rate"), 10.0f);
  EXPECT_EQ(last.at("mtp_1_cumulative_acceptance_rate"), 20.0f);
  EXPECT_EQ(last.at("mtp_2 loss"), 4.0f);
  EXPECT_EQ(last.at("mtp_2_cumulative_acceptance_rate"), 0.0f);
}

TEST(TensorBoardWriter, EveryRunCreatesAFile) {
  TemporaryFolder folder;
  std::set<std::string> paths;
  for (int i = 0; i < 3; ++i) paths.insert(TensorBoardWriter((folder / "")).file().path());
  EXPECT_EQ(paths.size(), 3u);
}

TEST(TensorBoardWriter, FullDiskLeavesCompleteRecords) {
  TemporaryFolder folder;
  TensorBoardWriter writer((folder / ""));
  ASSERT_TRUE(writer.step(example_step(1), 1));
  const auto before = read_events(writer.file().path()).size();
  {
    FileSizeLimit limit(std::filesystem::file_size(writer.file().path()) + 100);
    EXPECT_FALSE(writer.step(example_step(2), 1));
    EXPECT_EQ(writer.file().error(), "File too large");
  }
  EXPECT_EQ(read_events(writer.file().path()).size(), before);
  EXPECT_TRUE(writer.step(example_step(3), 1));
  EXPECT_EQ(read_events(writer.file().path()).back().step, 3);
}

TEST(TensorBoardWriter, AFolderThatCannotBeCreatedIsAnError) {
  TemporaryFolder folder;
  append_text((folder / "file"), "x");
  try {
    TensorBoardWriter writer((folder / "file/events"));
    FAIL();
  } catch (const Error& error) {
    const std::string text = error.what();
    EXPECT_EQ(
        text.rfind("Expected --tensorboard-dir to name a folder that can be created, but got '", 0),
        0u)
        << text;
    EXPECT_NE(text.find("Not a directory"), std::string::npos) << text;
  }
}

TEST(CutEventFiles, MovesStepsAndSamplesAfterTheCheckpoint) {
  TemporaryFolder folder;
  const auto record = [](int64_t iteration) {
    StepRecord step = example_step(iteration);
    step.iteration = iteration;
    step.consumed_samples = 8 * iteration;
    return step;
  };
  std::string path;
  {
    TensorBoardWriter writer((folder / "tb"));
    path = writer.file().path();
    for (int64_t i = 1; i <= 5; ++i) writer.step(record(i), 1);
    writer.evaluation({4, "validation", 2.0, std::nullopt}, 32);
    EXPECT_EQ(cut_event_files((folder / "tb"), 3, 24), 0);  // the file is being written
  }
  const auto before = read_events(path);
  append_text(path, "torn");
  const int64_t moved = cut_event_files((folder / "tb"), 3, 24);
  const auto kept = read_events(path);
  EXPECT_GT(moved, 0);
  EXPECT_EQ(std::ssize(kept) + moved, std::ssize(before));
  EXPECT_EQ(kept.front().file_version, "brain.Event:2");
  std::map<std::string, int64_t> last;
  for (const ReadEvent& event : kept) {
    const bool by_samples = event.tag.ends_with(" vs samples");
    EXPECT_LE(event.step, by_samples ? 24 : 3) << event.tag;
    last[event.tag] = event.step;
  }
  EXPECT_EQ(last.at("lm loss"), 3);
  EXPECT_EQ(last.at("lm loss vs samples"), 24);
  EXPECT_FALSE(last.contains("lm loss validation"));
  std::string superseded = path;
  superseded.replace(superseded.find("tfevents"), 8, "superseded");
  EXPECT_EQ(std::ssize(read_events(superseded)), moved);
  EXPECT_EQ(cut_event_files((folder / "tb"), 3, 24), 0);
  EXPECT_EQ(cut_event_files((folder / "missing"), 3, 24), 0);
}

}  // namespace
}  // namespace megatron
