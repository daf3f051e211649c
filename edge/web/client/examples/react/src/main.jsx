// Documents that appear as they are processed.

import { StrictMode, useCallback, useState } from "react";
import { createRoot } from "react-dom/client";
import { useBelfry } from "./useBelfry.js";

const url = new URLSearchParams(location.search).get("edge") ?? `${location.origin.replace(/^http/, "ws")}/ws`;

async function token() {
  const answer = await fetch("/token", { method: "POST", body: JSON.stringify({ user: "u1" }) });
  return (await answer.json()).token;
}

function App() {
  const [documents, setDocuments] = useState([]);
  const onEvent = useCallback((event) => {
    if (event.type === "image_processed") setDocuments((known) => [event.documentId, ...known.filter((id) => id !== event.documentId)].slice(0, 50));
  }, []);
  const state = useBelfry({ url, token, user: "u1" }, onEvent);
  return (
    <main>
      <h1>Documents</h1>
      <p id="state">{state}</p>
      <ul>
        {documents.map((id) => (
          <li key={id}>{id}</li>
        ))}
      </ul>
    </main>
  );
}

createRoot(document.getElementById("root")).render(
  <StrictMode>
    <App />
  </StrictMode>,
);
