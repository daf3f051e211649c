// What the page offers for trying out, made for it: an incident that never was, and
// what the voice in sample.wav says.

/** The sentence of sample.wav. */
export const SAMPLE_SPEECH = "The bell rings when your work is done.";

/** A report as `POST /reports` takes it; its pictures and its time are the page's. */
export const SAMPLE_REPORT = {
  title: "Bell tower without power",
  reference: "INC-2041",
  reporter: "The keeper of the tower",
  location: "Old market, north tower",
  severity: "medium",
  summary: "The lights in the bell chamber went out during the evening round.\n\nA damp junction box had tripped the breaker. Nobody was hurt, and the bell rang by hand.",
  rows: [
    { time: "18:02", what: "Lights go out on all three floors", who: "Keeper" },
    { time: "18:20", what: "Junction box found wet, circuit taken off", who: "Electrician" },
    { time: "19:05", what: "Power is back, the seal is replaced", who: "Electrician" },
  ],
  closing: "The seals of the other boxes will be looked at before winter.",
};
