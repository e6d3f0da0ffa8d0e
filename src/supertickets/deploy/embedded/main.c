/* Print the scores of images: `./network [--time N] [FILE ...]`; without files, of standard input.

   A file holds images as float32 in the order of the machine (channels, rows, columns), preprocessed; or one PNM image (P5 grey,
   P6 RGB, 8 bits) of exactly the network's size, which is preprocessed here. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "network.h"

enum { IMAGE = NETWORK_CHANNELS * NETWORK_HEIGHT * NETWORK_WIDTH };
static float image[IMAGE], scores[NETWORK_SCORES];
static unsigned char bytes[4 * IMAGE];

static int fail(const char *name, const char *why) {
  fprintf(stderr, "%s %s\n", name, why);
  return 2;
}

/* A number of the header, behind spaces and comments; -1 if there is none. */
static int read_number(FILE *file) {
  int c = getc(file), number = -1;
  for (; isspace(c) || c == '#'; c = getc(file)) {
    if (c == '#') {
      do c = getc(file);
      while (c != '\n' && c != EOF);
    }
  }
  for (; isdigit(c) && number < 1000000; c = getc(file)) number = 10 * (number < 0 ? 0 : number) + c - '0';
  return number;
}

static int read_pnm(FILE *file, int kind) {
  const int width = read_number(file), height = read_number(file), most = read_number(file);
  const int channels = kind == '5' ? 1 : 3;
  if (channels != NETWORK_CHANNELS || width != NETWORK_WIDTH || height != NETWORK_HEIGHT || most != 255) return 0;
  if (fread(bytes, 1, IMAGE, file) != IMAGE) return 0;
  for (int c = 0; c < channels; c++)
    for (int i = 0; i < IMAGE / channels; i++)
      image[c * (IMAGE / channels) + i] = (bytes[i * channels + c] / 255.f - network_mean[c]) / network_std[c];
  return 1;
}

static void print_scores(int repeats) {
  const clock_t begin = clock();
  for (int i = 0; i < (repeats ? repeats : 1); i++) network_run(image, scores);
  if (repeats) fprintf(stderr, "%.4f ms per image\n", 1e3 * (double)(clock() - begin) / CLOCKS_PER_SEC / repeats);
  for (int i = 0; i < NETWORK_SCORES; i++) printf("%.9g%c", scores[i], i + 1 < NETWORK_SCORES ? ' ' : '\n');
}

/* Whether nothing but white space is left, as text tools leave it behind an image. */
static int is_at_end(FILE *file) {
  int c = getc(file);
  while (isspace(c)) c = getc(file);
  return c == EOF;
}

static int run_file(FILE *file, const char *name, int repeats) {
  int images = 0;
  for (size_t have; (have = fread(bytes, 1, 3, file)) != 0; images++) {
    if (!images && have == 3 && bytes[0] == 'P' && (bytes[1] == '5' || bytes[1] == '6') && isspace(bytes[2])) {
      if (!read_pnm(file, bytes[1])) return fail(name, "is no PNM image of 8 bits and of the size that network.h says");
      print_scores(repeats);
      return is_at_end(file) ? 0 : fail(name, "goes on behind its image; give one image per file");
    } else {
      have += fread(bytes + have, 1, sizeof image - have, file);
      if (have != sizeof image) return fail(name, "does not hold whole images of float32");
      memcpy(image, bytes, sizeof image);
    }
    print_scores(repeats);
  }
  return images ? 0 : fail(name, "is empty");
}

int main(int count, char **words) {
  int first = 1, status = 0;
  const int timed = count > 2 && strcmp(words[1], "--time") == 0;
  const int repeats = timed ? atoi(words[2]) : 0;
  if (timed && repeats < 1) return fail("--time", "needs a number of calls, 1 or more");
  if (timed) first = 3;
  if (first == count) return run_file(stdin, "standard input", repeats);
  for (; first < count && !status; first++) {
    FILE *file = fopen(words[first], "rb");
    if (!file) return fail(words[first], "cannot be opened");
    status = run_file(file, words[first], repeats);
    fclose(file);
  }
  return status;
}
