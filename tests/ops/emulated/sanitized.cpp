// Both kernels for random sizes, to be run under a sanitizer: sanitized CASES JOINTS.
//
// Every array has its exact size, on the heap, and values are not looked at: that a result is right is for
// tests/ops/test_tag_loss.py. Each third map has two parts, and the last cell of a part is never free.
#include <memory>

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include "kernels.h"  // of tag_loss_cuda.cu

template <class T>
std::unique_ptr<T[]> array(int64_t size) {
  return std::unique_ptr<T[]>(new T[size]);
}

template <class T>
void run(int64_t images, int64_t joints, int64_t people, int64_t height, int64_t width, std::mt19937& draw) {
  using Loss = pose::LossOf<T>;
  const int64_t cells = height * width, all = images * people * joints, channels = joints + 1;
  const auto tags = array<T>(images * channels * cells);  // channels last, and a slice of the channels
  for (int64_t i = 0; i < images * channels * cells; ++i) tags[i] = static_cast<T>(0.01f * (draw() % 400));
  const auto cell = array<int64_t>(all);
  const int64_t edges[] = {0, std::min(pose::kFill, cells) - 1, std::min(pose::kFill, cells - 1), cells - 1};
  for (int64_t i = 0; i < all; ++i) {
    const unsigned kind = draw() % 4;
    cell[i] = kind == 0 ? -1 : kind == 1 ? edges[draw() % 4] : static_cast<int64_t>(draw() % cells);
  }
  // Of the last image's last joint, so that nothing of the maps is behind it: a cell just outside.
  if (all > 0) cell[all - 1] = cells;

  const auto person = array<pose::Person>(images * people);
  const auto pull_grad = array<double>(all), push_grad = array<double>(images * people);
  const auto pull = array<Loss>(images), push = array<Loss>(images), grad_pull = array<Loss>(images);
  const auto grad_push = array<Loss>(1);
  std::fill_n(grad_pull.get(), images, Loss(1));
  grad_push[0] = Loss(1);
  const auto grad = array<T>(images * joints * cells);
  const pose::TagMaps<T> maps{tags.get() + 1, cells * channels, 1, width * channels, channels, width, cells};
  const int64_t parts = (cells + pose::kFill - 1) / pose::kFill;
  emulated::launch(pose::tag_loss_forward<T>, images, pose::kThreads, 0, nullptr, maps, cell.get(), people,
                   joints, person.get(), pull_grad.get(), push_grad.get(), pull.get(), push.get());
  emulated::launch(pose::tag_loss_backward<T>, images * joints * parts, pose::kThreads, 0, nullptr,
                   grad_pull.get(), 1, grad_push.get(), 0, pull_grad.get(), push_grad.get(), cell.get(),
                   people, joints, cells, parts, grad.get());
}

int main(int, char** words) {
  const int cases = std::atoi(words[1]), joints = std::atoi(words[2]);
  std::mt19937 draw(1);
  for (int i = 0; i < cases; ++i) {
    const bool two_parts = i % 3 == 1;
    const int64_t images = 1 + draw() % 2, people = i == 2 ? 0 : 2 + draw() % 60;
    const int64_t height = two_parts ? 70 : 1 + draw() % 9, width = two_parts ? 121 : 1 + draw() % 9;
    run<float>(images, joints, people, height, width, draw);
    run<double>(images, joints, people, height, width, draw);
    run<c10::Half>(images, joints, people, height, width, draw);
    run<c10::BFloat16>(images, joints, people, height, width, draw);
  }
  std::puts("no mistake found");
}
