// Programmatic dependent launch: the next grid of a stream starts while this one ends.
// Source: PTX ISA, "Parallel Synchronization and Communication Instructions" (sm_90).
#pragma once

namespace attn::sm90 {

/// Lets CTAs of a dependent grid start wherever there is room, once all CTAs of this grid have come
/// here or ended. They see nothing of this grid before previous_grid_wait.
/// PTX ISA, "griddepcontrol".
__device__ inline void next_grid_launch() {
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

/// Waits until the grid before has ended and what it wrote is visible; returns at once where this
/// grid was launched without the attribute. PTX ISA, "griddepcontrol".
__device__ inline void previous_grid_wait() { asm volatile("griddepcontrol.wait;" ::: "memory"); }

}  // namespace attn::sm90
