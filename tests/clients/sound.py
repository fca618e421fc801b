"""Reads and writes sounds with libsndfile, which has libopus, libvorbis, LAME and mpg123 inside.

    sound.py decode FILE                prints rate, channels and frames, a line of text, then 16-bit samples
    sound.py encode WAV FILE FORMAT SUBTYPE
"""

import sys

import soundfile

command, path, *rest = sys.argv[1:]
samples, rate = soundfile.read(path, dtype="int16", always_2d=True)
if command == "decode":
    sys.stdout.buffer.write(f"{rate} {samples.shape[1]} {samples.shape[0]}\n".encode())
    sys.stdout.buffer.write(samples.tobytes())
else:
    target, container, subtype = rest
    soundfile.write(target, samples, rate, format=container, subtype=subtype)
