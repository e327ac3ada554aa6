// GGUF files: reading, writing, and headers that are damaged or lie.
#include <cstring>
#include <functional>
#include <gmock/gmock.h>

#include "megatron/formats/gguf_file.h"
#include "megatron/formats/gguf_writer.h"

#include "tests/checkpoint/checkpoint_fixture.h"

namespace megatron {
namespace {

using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const std::string kFixture = std::string(TEST_DATA_DIR) + "/gguf/metadata.gguf";

// Writes the fields of a header one by one.
class Header {
 public:
  template <typename T>
  Header& add(T value) {
    text_.append(reinterpret_cast<const char*>(&value), sizeof(value));
    return *this;
  }
  Header& text(const std::string& value) {
    add<uint64_t>(value.size());
    text_ += value;
    return *this;
  }
  Header& begin(uint64_t tensors, uint64_t keys, uint32_t version = 3) {
    text_ += "GGUF";
    return add(version).add(tensors).add(keys);
  }
  Header& tensor(const std::string& name, std::vector<uint64_t> dimensions, uint32_t type,
                 uint64_t offset) {
    text(name).add<uint32_t>(static_cast<uint32_t>(dimensions.size()));
    for (const uint64_t size : dimensions) add(size);
    return add(type).add(offset);
  }
  Header& data(size_t bytes, size_t alignment = 32) {
    text_.resize((text_.size() + alignment - 1) / alignment * alignment + bytes, '\1');
    return *this;
  }
  const std::string& str() const { return text_; }

 private:
  std::string text_;
};

class GgufTest : public CheckpointTest {
 protected:
  std::filesystem::path path_ = root_ / "x.gguf";

  std::string error_of_content(const std::string& content) {
    write_file(path_, content);
    return error_of([&] { GgufFile::open(path_); });
  }
  // Opens the file and reads all of it; only Error may be thrown. Returns whether it could.
  bool reads(const std::string& content) {
    write_file(path_, content);
    try {
      const GgufFile file = GgufFile::open(path_);
      for (const std::string& name : file.names()) file.tensor(name);
      return true;
    } catch (const Error&) {
      return false;
    }
  }
};

TEST_F(GgufTest, ReadsValuesOfEveryType) {
  const GgufFile file = GgufFile::open(kFixture);
  const GgufMetadata& metadata = file.metadata();
  EXPECT_EQ(metadata.text("general.architecture"), "llama");
  EXPECT_EQ(metadata.integer("u8"), 200);
  EXPECT_EQ(metadata.integer("i8"), -100);
  EXPECT_EQ(metadata.integer("u16"), 60000);
  EXPECT_EQ(metadata.integer("i16"), -30000);
  EXPECT_EQ(metadata.integer("u32"), 4000000000);
  EXPECT_EQ(metadata.integer("i32"), -2000000000);
  EXPECT_EQ(metadata.integer("i64"), INT64_MIN);
  EXPECT_EQ(metadata.real("f32"), double(0.1f));
  EXPECT_EQ(metadata.real("f64"), 1e300);
  EXPECT_EQ(metadata.real("u8"), 200);
  EXPECT_TRUE(metadata.boolean("yes"));
  EXPECT_FALSE(metadata.boolean("no"));
  EXPECT_EQ(metadata.text("text"), "caf\xc3\xa9");
  EXPECT_EQ(std::get<uint64_t>(*metadata.find("u64")), UINT64_MAX);
  EXPECT_THAT(metadata.integers("ints"), ElementsAre(1, -2, 3));
  EXPECT_THAT(metadata.integers("u8", 2), ElementsAre(200, 200));
  EXPECT_THAT(metadata.reals("floats"), ElementsAre(0.5, -1.5));
  EXPECT_THAT(metadata.booleans("flags"), ElementsAre(true, false));
  EXPECT_THAT(metadata.texts("texts"), ElementsAre("a", "", "bc"));
  EXPECT_EQ(gguf_type_name(*metadata.find("nested")), "ARRAY of ARRAY");
  EXPECT_THAT(file.names(), ElementsAre("matrix", "vector"));
  EXPECT_TRUE(at::equal(file.tensor("matrix"), numbered({2, 3})));
  EXPECT_TRUE(at::equal(file.tensor("vector", at::kHalf), numbered({4}, at::kHalf)));
}

TEST_F(GgufTest, MissingAndMistypedMetadataAreNamed) {
  const GgufFile file = GgufFile::open(kFixture);
  const GgufMetadata& metadata = file.metadata();
  EXPECT_EQ(metadata.integer("absent", 7), 7);
  EXPECT_THAT(error_of([&] { metadata.integer("u9"); }), HasSubstr("'u9'"));
  EXPECT_THAT(error_of([&] { metadata.integer("text"); }), HasSubstr("its type is STRING"));
  EXPECT_THAT(error_of([&] { metadata.integer("u64"); }), HasSubstr("63 bits"));
  EXPECT_THAT(error_of([&] { metadata.integers("texts"); }), HasSubstr("ARRAY of STRING"));
  EXPECT_THAT(error_of([&] { metadata.texts("ints"); }), HasSubstr("ARRAY of INT32"));
  EXPECT_THAT(error_of([&] { metadata.boolean("u8"); }), HasSubstr("UINT8"));
  EXPECT_THAT(error_of([&] { file.tensor("matrix2"); }), HasSubstr("nearest is 'matrix'"));
}

TEST_F(GgufTest, RoundTripKeepsMetadataAndValues) {
  const GgufFile file = GgufFile::open(kFixture);
  GgufWriter writer(path_.string(), file.metadata(),
                    {{"matrix", GgmlType::F32, {2, 3}}, {"vector", GgmlType::F16, {4}}});
  writer.write("matrix", file.tensor("matrix"));
  writer.write("vector", file.tensor("vector"));
  writer.commit();
  EXPECT_EQ(read_file(path_), read_file(kFixture));
}

TEST_F(GgufTest, WritesEveryTypeAndScalarsAndEmptyTensors) {
  const at::Tensor values = numbered({3, 64}) / 3;
  GgufMetadata metadata;
  metadata.add("empty", std::string());
  metadata.add("none", GgufArray{std::vector<std::string>()});
  GgufWriter writer(path_.string(), metadata,
                    {{"q", GgmlType::Q8_0, {3, 64}},
                     {"b", GgmlType::BF16, {3, 64}},
                     {"scalar", GgmlType::F32, {}},
                     {"none", GgmlType::F32, {0, 4}},
                     {"t", GgmlType::F32, {64, 3}}});
  writer.write("q", values);
  writer.write("b", values.to(at::kDouble));
  writer.write("scalar", at::full({}, 2.5));
  writer.write("none", at::empty({0, 4}));
  writer.write("t", values.t());
  writer.commit();
  const GgufFile file = GgufFile::open(path_);
  EXPECT_EQ(file.metadata().text("empty"), "");
  EXPECT_THAT(file.metadata().texts("none"), IsEmpty());
  EXPECT_LT((file.tensor("q") - values).abs().max().item<float>(), 0.3f);
  EXPECT_TRUE(at::equal(file.tensor("b"), values.to(at::kBFloat16).to(at::kFloat)));
  EXPECT_EQ(file.tensor("scalar").item<float>(), 2.5f);
  EXPECT_EQ(file.tensor("none").sizes().vec(), (std::vector<int64_t>{0, 4}));
  EXPECT_TRUE(at::equal(file.tensor("t"), values.t()));
}

TEST_F(GgufTest, NothingIsLeftWithoutACommit) {
  {
    GgufWriter writer(path_.string(), GgufMetadata(), {{"a", GgmlType::F32, {2}}});
    EXPECT_THAT(error_of([&] { writer.commit(); }), HasSubstr("1 tensors"));
    EXPECT_THAT(error_of([&] { writer.write("b", numbered({2})); }), HasSubstr("'a' next"));
    EXPECT_THAT(error_of([&] { writer.write("a", numbered({3})); }), HasSubstr("shape [2]"));
  }
  EXPECT_THAT(names_in(root_), IsEmpty());
  const auto write_header = [&](std::vector<GgufTensorInfo> infos) {
    return error_of([&] { GgufWriter(path_.string(), GgufMetadata(), infos); });
  };
  EXPECT_THAT(write_header({{"a", GgmlType::F32, {1}}, {"a", GgmlType::F32, {1}}}),
              HasSubstr("'a' twice"));
  EXPECT_THAT(write_header({{"a", GgmlType::F32, {1, 1, 1, 1, 1}}}),
              HasSubstr("at most 4 dimensions"));
  EXPECT_THAT(write_header({{"a", GgmlType::Q8_0, {2, 33}}}), HasSubstr("multiple of 32"));
  EXPECT_THAT(names_in(root_), IsEmpty());
}

TEST_F(GgufTest, EveryTruncationIsRefused) {
  const std::string content = read_file(kFixture);
  for (size_t size = 0; size < content.size(); ++size) {
    const bool padding = size >= content.size() - 24;  // after the last tensor of 8 bytes
    EXPECT_EQ(reads(content.substr(0, size)), padding) << size;
  }
}

// Each byte in turn gets values that make lengths, counts, types and offsets wrong.
TEST_F(GgufTest, ChangedBytesNeverCrash) {
  const std::string content = read_file(kFixture);
  size_t refused = 0;
  for (size_t place = 0; place < content.size(); ++place) {
    for (const int value : {0x00, 0x7F, 0xFF}) {
      std::string changed = content;
      changed[place] = static_cast<char>(value);
      refused += reads(changed) ? 0 : 1;
    }
  }
  EXPECT_GT(refused, 300u);
}

TEST_F(GgufTest, LyingHeadersAreRefused) {
  const auto big = uint64_t{1} << 60;
  EXPECT_THAT(error_of_content("GGML\3"), AnyOf(HasSubstr("begin with"), HasSubstr("ends")));
  EXPECT_THAT(error_of_content(""), HasSubstr("it ends"));
  EXPECT_THAT(error_of_content(Header().begin(0, 0, 1).str()), HasSubstr("version 1"));
  EXPECT_THAT(error_of_content(Header().begin(0, 0, 4).str()), HasSubstr("version 4"));
  EXPECT_THAT(error_of_content(Header().begin(0, 0, 0x03000000).str()), HasSubstr("big-endian"));
  EXPECT_THAT(error_of_content(Header().begin(big, 0).str()), HasSubstr("tensors"));
  EXPECT_THAT(error_of_content(Header().begin(0, UINT64_MAX).str()), HasSubstr("metadata entries"));
  EXPECT_THAT(error_of_content(Header().begin(0, 1).add(UINT64_MAX).data(64).str()),
              HasSubstr("a metadata key"));
  const auto key = [](uint32_t type) { return Header().begin(0, 1).text("k").add(type); };
  EXPECT_THAT(error_of_content(key(13).add(big).str()), HasSubstr("type 13"));
  EXPECT_THAT(error_of_content(key(8).add(big).str()), HasSubstr("a STRING"));
  EXPECT_THAT(error_of_content(key(7).add<uint8_t>(2).str()), HasSubstr("a BOOL"));
  EXPECT_THAT(error_of_content(key(9).add<uint32_t>(4).add(big).str()), HasSubstr("an array"));
  EXPECT_THAT(error_of_content(key(9).add<uint32_t>(77).add<uint64_t>(0).str()),
              HasSubstr("type 77"));
  Header nested = key(9);
  for (int depth = 0; depth < 100; ++depth) nested.add<uint32_t>(9).add<uint64_t>(1);
  EXPECT_THAT(error_of_content(nested.data(1000).str()), HasSubstr("nest deeper"));
  EXPECT_THAT(error_of_content(Header()
                                   .begin(0, 2)
                                   .text("k")
                                   .add<uint32_t>(0)
                                   .add<uint8_t>(1)
                                   .text("k")
                                   .add<uint32_t>(0)
                                   .add<uint8_t>(1)
                                   .str()),
              HasSubstr("'k' occurs twice"));
}

TEST_F(GgufTest, LyingTensorsAreRefused) {
  const auto one = [&](std::vector<uint64_t> dimensions, uint32_t type, uint64_t offset,
                       size_t bytes) {
    return error_of_content(
        Header().begin(1, 0).tensor("t", std::move(dimensions), type, offset).data(bytes).str());
  };
  EXPECT_THAT(one({4}, 0, 0, 15), HasSubstr("16 bytes"));
  EXPECT_THAT(one({4}, 0, 32, 32), HasSubstr("begins at byte 32"));
  EXPECT_THAT(one({4}, 0, 8, 64), HasSubstr("aligned to 32"));
  EXPECT_THAT(one({4}, 0, UINT64_MAX - 31, 64), HasSubstr("of 64 bytes of data"));
  EXPECT_THAT(one({UINT64_MAX}, 0, 0, 64), HasSubstr("a dimension of"));
  EXPECT_THAT(one({uint64_t{1} << 62, 4}, 0, 0, 64), HasSubstr("63 bits"));
  EXPECT_THAT(one({uint64_t{1} << 62}, 0, 0, 64), HasSubstr("has shape"));
  EXPECT_THAT(one({1, 1, 1, 1, 1}, 0, 0, 64), HasSubstr("5 dimensions"));
  EXPECT_THAT(one({33}, 8, 0, 64), HasSubstr("no multiple of Q8_0's 32"));
  EXPECT_THAT(one({256}, 10, 0, 84), HasSubstr("but got Q2_K"));
  EXPECT_THAT(one({256}, 1000, 0, 84), HasSubstr("but got number 1000"));
  const auto two = [&](const std::string& name, uint64_t offset) {
    return error_of_content(
        Header().begin(2, 0).tensor("a", {16}, 0, 0).tensor(name, {4}, 0, offset).data(96).str());
  };
  EXPECT_THAT(two("a", 64), HasSubstr("'a' occurs twice"));
  EXPECT_THAT(two("b", 32), HasSubstr("'a' and 'b' overlap"));
  EXPECT_TRUE(
      reads(Header().begin(2, 0).tensor("a", {4}, 0, 32).tensor("b", {4}, 0, 0).data(64).str()));
}

TEST_F(GgufTest, AlignmentIsRead) {
  const auto with_alignment = [&](uint32_t alignment, uint64_t offset) {
    return Header()
        .begin(2, 1)
        .text("general.alignment")
        .add<uint32_t>(4)
        .add(alignment)
        .tensor("a", {1}, 0, 0)
        .tensor("b", {1}, 0, offset);
  };
  EXPECT_TRUE(reads(with_alignment(8, 8).data(16, 8).str()));
  EXPECT_FALSE(reads(with_alignment(64, 32).data(128, 64).str()));
  for (const uint32_t alignment : {0u, 4u, 24u}) {
    EXPECT_THAT(error_of_content(with_alignment(alignment, 32).data(64).str()),
                HasSubstr("power of two"));
  }
}

TEST_F(GgufTest, PartsOfAModelAreRefused) {
  EXPECT_THAT(error_of_content(
                  Header().begin(0, 1).text("split.count").add<uint32_t>(2).add<uint16_t>(3).str()),
              HasSubstr("one of 3 parts"));
}

TEST_F(GgufTest, IsRecognizedByItsFirstBytes) {
  EXPECT_TRUE(GgufFile::is_gguf(kFixture));
  EXPECT_FALSE(GgufFile::is_gguf(path_));
  write_file(path_, "GGU");
  EXPECT_FALSE(GgufFile::is_gguf(path_));
  EXPECT_FALSE(GgufFile::is_gguf(root_));
}

}  // namespace
}  // namespace megatron
