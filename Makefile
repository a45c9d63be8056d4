# The doors, a few lines each; the logic is in CMakeLists.txt and tools/.
.DEFAULT_GOAL := help
.PHONY: help test reproduce build format clean

help:       ## this list
	@sed -n 's/^\([a-z]*\): *## /  make \1\t/p' Makefile | expand -t 20

test:       ## install what is missing, build, run every test; GPU tests skip without a GPU
	@tools/test.sh

reproduce:  ## matrix, sweep, figures, tables in ten minutes; run again to resume
	@tools/reproduce.sh

build:      ## install what is missing and build build/attnbench
	@tools/bootstrap.sh && tools/build.sh

format:     ## rewrite the C++ and CUDA sources in the house's format
	@tools/format.sh

clean:      ## remove build/ (results and .venv stay)
	@rm -rf build
