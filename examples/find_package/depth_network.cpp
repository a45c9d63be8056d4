// A network with block attention residuals learns to copy a shifted sequence of numbers. With the installed
// library and LibTorch alone: each sublayer is a function and the parameters that it uses.
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/zeros.h>
#include <attnbench/attnres.h>

#include <iostream>
#include <string_view>
#include <vector>

namespace {

constexpr std::int64_t kWidth = 16;
constexpr std::int64_t kSublayers = 6;

at::Tensor parameter(const at::Tensor& values) { return values.detach().requires_grad_(true); }

/// u = tanh(h weight^T)
attnbench::Sublayer make_sublayer() {
  const at::Tensor weight = parameter(at::randn({kWidth, kWidth}) * 0.2);
  return {.forward = [weight](const at::Tensor& h) { return at::tanh(at::linear(h, weight)); },
          .parameters = {weight}};
}

double loss_of(const std::vector<attnbench::Sublayer>& sublayers,
               const at::Tensor& queries,
               std::string_view recompute,
               bool learns) {
  const at::Tensor x = at::randn({32, kWidth});
  const at::Tensor out =
      attnbench::attnres_network(x, queries, sublayers, {.block_size = 2, .recompute = recompute});
  const at::Tensor loss = (out - x.roll(1, 1)).square().mean();
  if (learns) {
    loss.backward();
    const at::NoGradGuard guard;
    std::vector<at::Tensor> all = {queries};
    for (const auto& sublayer : sublayers) all.push_back(sublayer.parameters.front());
    for (at::Tensor& tensor : all) {
      tensor.sub_(tensor.grad() * 0.5);
      tensor.mutable_grad().zero_();
    }
  }
  return loss.item<double>();
}

}  // namespace

int main() {
  std::vector<attnbench::Sublayer> sublayers;
  for (std::int64_t i = 0; i < kSublayers; ++i) sublayers.push_back(make_sublayer());
  const at::Tensor queries = parameter(at::zeros({kSublayers + 1, kWidth}));
  const double before = loss_of(sublayers, queries, "block", /*learns=*/false);
  for (int step = 0; step < 300; ++step)
    loss_of(sublayers, queries, step % 2 == 0 ? "none" : "block", /*learns=*/true);
  const double after = loss_of(sublayers, queries, "block", /*learns=*/false);
  std::cout << "loss before " << before << ", after " << after << "\n";
  return after < before / 2 ? 0 : 1;
}
