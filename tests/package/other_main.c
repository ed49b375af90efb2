/* The program of claim_two_runtimes.sh: serve.c, with calls of the other Rust library around it. */
#include <stdint.h>
#include <stdio.h>

#define main serve_main
#include "serve.c"
#undef main

uint64_t other_sum(uint64_t count);
#ifdef HOOKS
void ahoy_test_fail(const char *call, int error, int skip, int times);
#endif

int main(void)
{
#ifdef HOOKS
    ahoy_test_fail("no such call", 0, 0, 0); /* panics, and is caught inside the library */
#endif
    if (other_sum(10) != 55 || serve_main() != 0 || other_sum(100) != 5050) {
        fprintf(stderr, "the two Rust runtimes disagree\n");
        return 1;
    }
    return 0;
}
