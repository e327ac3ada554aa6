#include "megatron/checkpoint/checkpoint_directory.h"

#include <gtest/gtest.h>

#include "tests/temporary_folder.h"

namespace megatron {
namespace {

namespace fs = std::filesystem;

class SameFolder : public testing::Test {
 protected:
  void SetUp() override {
    before_ = fs::current_path();
    fs::current_path(root_);
  }
  void TearDown() override { fs::current_path(before_); }

  const TemporaryFolder folder_;
  const fs::path root_ = folder_.path();
  fs::path before_;
};

TEST_F(SameFolder, MayBeMissing) {
  EXPECT_TRUE(is_same_folder("new", "new"));
  EXPECT_TRUE(is_same_folder("new", "new/"));
  EXPECT_TRUE(is_same_folder("./new", "new/"));
  EXPECT_TRUE(is_same_folder("new", root_ / "new"));
  EXPECT_TRUE(is_same_folder("a/../new", "new"));
  EXPECT_FALSE(is_same_folder("new", "old"));
  EXPECT_FALSE(is_same_folder("new", "new/more"));
}

TEST_F(SameFolder, MayExist) {
  fs::create_directory("new");
  EXPECT_TRUE(is_same_folder("new", "new/"));
  EXPECT_TRUE(is_same_folder("new/", root_ / "new"));
  EXPECT_FALSE(is_same_folder("new", root_));
}

TEST_F(SameFolder, MayBeASymbolicLink) {
  fs::create_directory("real");
  fs::create_directory_symlink("real", "link");
  EXPECT_TRUE(is_same_folder("link", "real/"));
  EXPECT_TRUE(is_same_folder("link/new", "real/new/"));
}

TEST_F(SameFolder, IsNotAnEmptyPath) {
  EXPECT_FALSE(is_same_folder("", ""));
  EXPECT_FALSE(is_same_folder("new", ""));
}

}  // namespace
}  // namespace megatron
