/*
 * client: asks a server one question and prints the answer.
 *
 *     cc -o client client.c $(pkg-config --cflags --libs ahoy)
 *     ./client tcp://127.0.0.1:8888 Ahoy
 *     ./client --framing lines --timeout 500 tcp://10.0.0.1:9000,tcp://10.0.0.2:9000 how are you
 *
 * Of several URLs the next one stands in for one that cannot be reached. Exits with 0 after an answer, with
 * 1 if there was none in time, with 2 after a wrong command line.
 */
#define _GNU_SOURCE /* getopt_long */
#include <ahoy.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int usage(void)
{
    fprintf(stderr, "usage: client [--framing raw|lines|length] [--timeout MS] URL[,URL...] [TEXT...]\n");
    return 2;
}

/* Index of `word` in `words`, 0 if it is none of them; words[0] is not looked at. */
static int index_of(const char *word, const char *const *words, int count)
{
    for (int i = 1; i < count; i++)
        if (strcmp(word, words[i]) == 0) return i;
    return 0;
}

int main(int argc, char **argv)
{
    static const char *const framings[] = {
        [AHOY_FRAMING_RAW] = "raw", [AHOY_FRAMING_LINES] = "lines", [AHOY_FRAMING_LENGTH] = "length" };
    static const struct option known[] = {
        { "framing", required_argument, NULL, 'f' }, { "timeout", required_argument, NULL, 't' }, { 0 } };
    static char question[64 << 10], answer[(1 << 20) + 1];
    ahoy_request_options options = { .size = sizeof options };
    size_t len = 0, received;

    for (int option; (option = getopt_long(argc, argv, "f:t:", known, NULL)) != -1;) {
        char *end = NULL;
        if (option == 'f') {
            options.framing = index_of(optarg, framings, sizeof framings / sizeof *framings);
            if (options.framing == AHOY_FRAMING_DEFAULT) return usage();
        } else if (option == 't') {
            errno = 0;
            unsigned long ms = strtoul(optarg, &end, 10);
            if (errno != 0 || *end != '\0' || optarg[0] == '-' || ms < 1 || ms > UINT32_MAX) return usage();
            options.timeout_ms = (uint32_t)ms;
        } else {
            return usage();
        }
    }
    if (optind == argc) return usage();
    for (int i = optind + 1; i < argc; i++) {
        size_t room = sizeof question - len;
        int n = snprintf(question + len, room, "%s%s", len > 0 ? " " : "", argv[i]);
        if (n < 0 || (size_t)n >= room) return usage();
        len += (size_t)n;
    }

    if (ahoy_request(argv[optind], &options, question, len, answer, sizeof answer, &received)) {
        ahoy_perror("client");
        return 1;
    }
    fwrite(answer, 1, received, stdout);
    return putchar('\n') == EOF || fflush(stdout) == EOF;
}
