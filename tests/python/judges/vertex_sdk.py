"""Google's SDK with Vertex AI: a service account's key is exchanged for tokens by google-auth."""

import json

import gemini_sdk
from google import genai
from google.oauth2 import service_account


class Judge(gemini_sdk.Judge):
    EMBEDDING = "text-embedding-005"

    def __init__(self, url, key, service_account_file):
        self.file = service_account_file
        super().__init__(url, key)

    def connect(self, key):
        with open(self.file, encoding="utf-8") as file:
            info = json.load(file)
        if key.endswith("somebody-else"):
            info["client_email"] = "somebody-else@fake.iam.gserviceaccount.com"
        scopes = ["https://www.googleapis.com/auth/cloud-platform"]
        credentials = service_account.Credentials.from_service_account_info(info, scopes=scopes)
        return genai.Client(
            vertexai=True,
            project="fake-project",
            location="europe-west4",
            credentials=credentials,
            http_options=self.options("vertex"),
        )

    def stranger(self, conversation):
        return Judge(self.url, "of-somebody-else", self.file).ask(conversation)

    def models(self):
        return None
