// Safetensors reader and writer: round trips and invalid files.
#include <cstring>
#include <gmock/gmock.h>

#include "megatron/formats/checksum.h"
#include "megatron/formats/safetensors_file.h"
#include "megatron/formats/safetensors_writer.h"

#include "tests/checkpoint/checkpoint_fixture.h"

namespace megatron {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class SafetensorsTest : public CheckpointTest {
 protected:
  std::filesystem::path path_ = root_ / "x.safetensors";

  // A file with this header and number of data bytes.
  void write_raw(const std::string& header, size_t data_bytes) {
    const uint64_t length = header.size();
    std::string content(reinterpret_cast<const char*>(&length), sizeof(length));
    write_file(path_, content + header + std::string(data_bytes, '\1'));
  }

  std::string open_error() {
    return error_of([&] { SafetensorsFile::open(path_); });
  }
};

TEST_F(SafetensorsTest, RoundTripKeepsEveryTypeShapeAndValue) {
  std::vector<NamedTensor> tensors;
  for (const auto dtype : {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16, at::kLong, at::kInt,
                           at::kShort, at::kChar, at::kByte, at::kBool}) {
    tensors.push_back({c10::toString(dtype), numbered({3, 5}, dtype)});
  }
  tensors.push_back({"scalar", at::full({}, 2.5)});
  tensors.push_back({"empty", at::empty({0, 4})});
  tensors.push_back({"odd", numbered({3}, at::kByte)});
  const auto written = write_safetensors(path_, tensors, {{"who", "test"}});
  EXPECT_EQ(written.bytes, static_cast<int64_t>(std::filesystem::file_size(path_)));

  const auto file = SafetensorsFile::open(path_);
  EXPECT_EQ(file.names().size(), tensors.size());
  EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"who", "test"}}));
  for (size_t i = 0; i < tensors.size(); ++i) {
    const std::string& name = tensors[i].name;
    const at::Tensor& data = tensors[i].data;
    for (const auto& read : {file.tensor(name), file.mapped(name)}) {
      EXPECT_EQ(read.scalar_type(), data.scalar_type()) << name;
      EXPECT_TRUE(at::equal(read, data)) << name;
    }
    const auto bytes = file.bytes(name);
    EXPECT_EQ(written.checksums[i], checksum_hex(bytes.data(), bytes.size())) << name;
  }
}

TEST_F(SafetensorsTest, DataIsAligned) {
  write_safetensors(path_,
                    {{"byte", numbered({3}, at::kByte)}, {"double", numbered({2}, at::kDouble)}});
  const std::string content = read_file(path_);
  uint64_t header = 0;
  std::memcpy(&header, content.data(), sizeof(header));
  EXPECT_EQ(header % 8, 0u);
  EXPECT_EQ(SafetensorsFile::open(path_).entry("double").begin % 8, 0u);
}

TEST_F(SafetensorsTest, WritesStridedViews) {
  const auto base = numbered({6, 4});
  write_safetensors(path_, {{"t", base.t()}, {"columns", base.narrow(1, 1, 2)}});
  const auto file = SafetensorsFile::open(path_);
  EXPECT_TRUE(at::equal(file.tensor("t"), base.t()));
  EXPECT_TRUE(at::equal(file.tensor("columns"), base.narrow(1, 1, 2)));
}

TEST_F(SafetensorsTest, ChecksumDoesNotDependOnChunks) {
  const auto large = numbered({1 << 20});  // 4 MiB: several chunks
  const auto written = write_safetensors(path_, {{"large", large}});
  EXPECT_EQ(written.checksums[0], checksum_hex(large.const_data_ptr(), large.nbytes()));
  EXPECT_EQ(checksum_hex("", 0), "2d06800538d394c2");  // XXH3-64 of nothing
}

TEST_F(SafetensorsTest, MappedTensorsOutliveTheFile) {
  write_safetensors(path_, {{"w", numbered({8})}});
  at::Tensor mapped = SafetensorsFile::open(path_).mapped("w");
  EXPECT_TRUE(at::equal(mapped, numbered({8})));
  mapped.fill_(7);
  EXPECT_TRUE(at::equal(SafetensorsFile::open(path_).tensor("w"), numbered({8})));
}

TEST_F(SafetensorsTest, ReadsUnalignedData) {
  write_raw(R"({"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
            R"("f":{"dtype":"I32","shape":[2],"data_offsets":[1,9]}})",
            9);
  const auto file = SafetensorsFile::open(path_);
  EXPECT_TRUE(at::equal(file.mapped("f"), at::full({2}, 0x01010101, at::kInt)));
}

TEST_F(SafetensorsTest, UnknownNameSuggestsTheNearest) {
  write_safetensors(path_, {{"layer.weight", numbered({2})}, {"other", numbered({2})}});
  const auto file = SafetensorsFile::open(path_);
  EXPECT_THAT(error_of([&] { file.tensor("layer.wieght"); }),
              HasSubstr("nearest is 'layer.weight'"));
}

TEST_F(SafetensorsTest, RefusesDuplicateNamesAndUnsupportedTypes) {
  EXPECT_THAT(error_of([&] {
                write_safetensors(path_, {{"w", numbered({2})}, {"w", numbered({2})}});
              }),
              HasSubstr("'w' twice"));
  EXPECT_THAT(error_of([&] {
                write_safetensors(path_, {{"w", at::empty({2}, at::kQInt8)}});
              }),
              HasSubstr("QInt8"));
}

TEST_F(SafetensorsTest, RefusesOtherFiles) {
  EXPECT_THAT(open_error(), HasSubstr("No such file"));
  std::filesystem::create_directory(path_);
  EXPECT_THAT(open_error(), HasSubstr("Expected a regular file"));
  std::filesystem::remove(path_);
  write_file(path_, "");
  EXPECT_THAT(open_error(), HasSubstr("it has 0 bytes"));
  write_file(path_, "hello, this is text");
  EXPECT_THAT(open_error(), HasSubstr("header would be"));
  write_raw("{not json}", 0);
  EXPECT_THAT(open_error(), HasSubstr("not a JSON object"));
  write_raw("[]", 0);
  EXPECT_THAT(open_error(), HasSubstr("not a JSON object"));
}

TEST_F(SafetensorsTest, RefusesInvalidHeaders) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"w":3})", "lacks a dtype"},
      {R"({"w":{"dtype":"F32","shape":[1]}})", "lacks a dtype"},
      {R"({"w":{"dtype":"F33","shape":[1],"data_offsets":[0,4]}})", "but got 'F33'"},
      {R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", "shape [2] and type F32"},
      {R"({"w":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", "'shape' of tensor 'w'"},
      {R"({"w":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}})", "'shape' of tensor 'w'"},
      {R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", "data_offsets 4..0"},
      {R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0]}})", "'data_offsets' of tensor"},
      {R"({"w":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,4]}})",
       "data_offsets"},
      {R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
       "need 8 bytes of data and it has 4"},
      {R"({"__metadata__":{"a":1}})", "more than strings"},
      {R"({})", "need 0 bytes of data and it has 4"},
      {R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},)"
       R"("b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}})",
       "'b' begins at byte 2 of the data instead of 3"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
       R"("b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}})",
       "'b' begins at byte 2 of the data instead of 1"},
  };
  for (const auto& [header, expected] : cases) {
    write_raw(header, 4);
    EXPECT_THAT(open_error(), HasSubstr(expected)) << header;
  }
}

TEST_F(SafetensorsTest, RefusesEveryTruncation) {
  write_safetensors(path_, {{"a", numbered({4})}, {"b", numbered({3}, at::kByte)}});
  const std::string content = read_file(path_);
  for (size_t length = 0; length < content.size(); ++length) {
    write_file(path_, content.substr(0, length));
    open_error();
  }
}

}  // namespace
}  // namespace megatron
