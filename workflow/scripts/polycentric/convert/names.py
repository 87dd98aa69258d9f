"""Names of regions that can be shown: a region can be named after a person, so only words of a fixed list are."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Words of AAPM TG-263 (2018) and of common usage for targets and organs; no word that is mainly a family name.
_TEXT = """
    gtv ctv itv ptv igtv ictv iptv pgtv btv mtv ptvn ptvp gtvp gtvn ctvp ctvn gtvt gtvnd ctvnd icru boost opt eval
    prv oar avoid ring external body skin couch bolus artifact contrast marker fiducial isocentre isocenter iso
    dose tumor tumour lesion lesions metastasis metastases mets mass nodule nodules node nodes nodal lymph
    lymphnode lymphnodes primary primair primaer prim tum edema oedema necrosis necrotic enhancing cyst core
    peritumoral peritumoural background reference ref whole total left right lt rt l r ant post sup inf
    med lat dist prox anterior posterior superior inferior medial lateral bilateral ipsilateral contralateral ipsi
    contra upper lower middle lobe lobes segment expanded minus plus and of the in on with without not old new
    copy edit edited final test manual auto automatic draft suv pet ct mr mri cbct mip mean exp insp phase
    lung lungs heart liver spleen kidney kidneys adrenal pancreas stomach bowel bowels bowelbag bag small large
    duodenum jejunum ileum colon sigmoid rectum anus anal anorectum canal sphincter bladder urethra ureter
    prostate seminal vesicle vesicles sv penile bulb penilebulb penis testis testes uterus cervix ovary ovaries
    vagina vulva esophagus oesophagus trachea bronchus bronchi bronchialtree airway aorta artery vein vena
    cava svc ivc vessel vessels ventricle atrium pericardium coronary lad lca rca lcx valve pulmonary pulm
    mediastinum thymus thorax thoracic chest chestwall wall diaphragm rib ribs sternum clavicle scapula humerus
    femur femurs femoral head heads neck femoralhead femoralheads pelvis pelvic sacrum ilium ischium pubis
    acetabulum hip bone bones bonemarrow marrow vertebra vertebrae spine spinal cord spinalcord cordprv
    spinalcanal myelum myelon medulla brain brainstem brain-stem stem cerebellum cerebrum cerebral temporal
    frontal parietal occipital hippocampus hypothalamus pituitary hypophysis pineal chiasm opticchiasm optic nerve
    nerves opticnerve opticnerves opticnrv nrv eye eyes lens lenses retina globe cornea lacrimal lacrimalgland
    gland glands glnd cochlea ear ears inner outer mandible maxilla tmj parotid parotids submandibular submand
    sublingual larynx pharynx glottis supraglottis subglottis constrictor constrictors musc muscle muscles tongue
    oral cavity oralcavity lip lips palate teeth tooth thyroid parathyroid nasal nasopharynx oropharynx
    hypopharynx sinus breast breasts nipple heartwall axilla axillary plexus brachial brachialplexus brachialplex
    ln lymphatic iliac inguinal presacral paraaortic obturator supraclav supraclavicular hilum hilar hila portal
    hepatic gallbladder bile duct common peritoneum peritoneal retroperitoneal fat soft tissue arm arms leg legs
    knee foot feet hand hands wrist elbow shoulder
"""
_WORDS = frozenset(_TEXT.split())
_LONGEST, _SHOWN = 40, 20


def safe(name: str) -> bool:
    """Whether a name consists of words of the list and of at most one number of at most two digits.

    Longer or further numbers can be dates or patient numbers.
    """
    if not name or len(name) > _LONGEST or not name.isascii() or not re.fullmatch(r"\w[\w .,+/()-]*", name):
        return False
    parts = re.findall(r"[A-Za-z]+|\d+", name)
    digits = [p for p in parts if p.isdigit()]
    words = [p for p in parts if not p.isdigit()]
    return bool(words) and len(digits) <= 1 and all(len(d) <= 2 for d in digits) and all(map(_known, words))


def _known(word: str) -> bool:
    # SpinalCord, FemoralHead: words that run together are told apart by their capitals
    return word.lower() in _WORDS or all(w.lower() in _WORDS for w in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", word))


def shown(names: Sequence[str], numbers: Sequence[int]) -> str:
    """Names for a public reason; one that could name a person becomes the number of the region in its file, from 1."""
    texts = [
        " ".join(name.split()) if safe(" ".join(name.split())) else f"region {number}"
        for name, number in zip(names, numbers, strict=True)
    ]
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return ", ".join(texts[:_SHOWN]) + more
