"""Prints what is said in a WAV file, by a real recogniser that knows a few words."""

import sys
import tempfile
import wave

from pocketsphinx import Decoder

WORDS = """pump | valve | door | light | one | two | three | four | five | six | seven
| eight | nine | open | closed | stopped | started | is"""

with wave.open(sys.argv[1]) as file:
    form = (file.getframerate(), file.getnchannels(), file.getsampwidth())
    assert form == (16000, 1, 2), f"16 kHz, one channel, 16 bits are expected: {form}"
    frames = file.readframes(file.getnframes())
with tempfile.NamedTemporaryFile("w", suffix=".jsgf") as grammar:
    grammar.write(f"#JSGF V1.0;\ngrammar words;\npublic <all> = ( {WORDS} )+;\n")
    grammar.flush()
    decoder = Decoder(samprate=16000, loglevel="FATAL", lm=None, jsgf=grammar.name)
decoder.start_utt()
decoder.process_raw(frames, full_utt=True)
decoder.end_utt()
print(decoder.hyp().hypstr if decoder.hyp() else "")
